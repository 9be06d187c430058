"""Settings of a role that change how values are written, read or kept: no value changes on its way, and no run ends.

Both roles have every setting against us. Neither is a superuser, so each setting has to be one that its role may change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable
from rosetta_dagster.cdc.postgres.connections import connect
from rosetta_dagster.cdc.postgres.errors import Translation
from rosetta_dagster.cdc.postgres.session import SESSION_SETTINGS
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.source.connections import connect_for_replication
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import SECRET_KEY, Database
from tests.support.engines import only_pgoutput
from tests.support.pipelines import is_streaming, pipeline, replicate, running, wait_until, wait_until_equal

PASSWORD: Final = "open sesame of a role"

DESTINATION: Final = Translation(who="destination d", unavailable=DestinationUnavailable, rejected=DestinationRejected)

#: What changes the text of a value, or how a text is read.
TEXT_FORMS: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "lc_monetary": "C.UTF-8",
    "xmloption": "document",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "transform_null_equals": "on",
    "default_text_search_config": "pg_catalog.german",
    "check_function_bodies": "off",
    "row_security": "on",
}

#: What refuses, delays or ends work.
WORK: Final = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "exit_on_error": "on",
    "wal_sender_timeout": "300ms",
}

#: Short, but not so short that a session has no time to set its own.
TIMEOUTS: Final = {
    "statement_timeout": "200ms",
    "lock_timeout": "50ms",
    "transaction_timeout": "300ms",
    "idle_in_transaction_session_timeout": "50ms",
    "idle_session_timeout": "200ms",
}

AGAINST_US: Final = {**TEXT_FORMS, **WORK, **TIMEOUTS}

TABLE: Final = """
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TABLE items (
    id int PRIMARY KEY, d date, t timestamptz, i interval, b bytea, r real, f float8, m money, texts text[],
    "Quoted" text, mood mood, spans tstzrange, note varchar(20), touched int);
CREATE TABLE keyless (d date, i interval, texts text[], f float8);
ALTER TABLE keyless REPLICA IDENTITY FULL
"""

ROW: Final = (
    "'2024-02-03', '2024-02-03 04:05:06.789+00', '1 year -2 days 03:04:05', '\\xdeadbeef00', 0.1::real, 0.1::float8 + 0.2,"
    " '1234.5', '{NULL,x,\"NULL\"}', E'back\\\\slash ''quote'' é €', 'fine',"
    " '[2024-02-03 00:00+00,2024-03-04 00:00+00)', 'a\\b'"
)


@contextmanager
def of_a_role(database: Database, attributes: LiteralString = "") -> Iterator[Database]:
    """The database, owned and reached by a role of its own that has every setting against us."""
    place = database.connection
    name = f"role of {place.database}"
    role, owned = sql.Identifier(name), sql.Identifier(place.database)
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes).format(role, sql.Literal(PASSWORD)))
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(owned, role))
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(role))
        connection.execute("CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC")
        for setting, value in {**AGAINST_US, "search_path": "evil"}.items():
            if setting != "transaction_timeout" or connection.info.server_version >= 170_000:
                statement = sql.SQL("ALTER ROLE {} SET {} = {}")
                connection.execute(statement.format(role, sql.Identifier(setting), sql.Literal(value)))
    yield Database(url=place.model_copy(update={"username": name, "password": SecretStr(PASSWORD)}).conninfo())
    with database.connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(owned))
        connection.execute("ALTER SCHEMA public OWNER TO postgres")
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(role))


@pytest.fixture
def roles(source: Database, destination: Database) -> Iterator[tuple[Database, Database]]:
    """Source and destination, each reached by a role with every setting against us."""
    with of_a_role(source, "REPLICATION") as reader, of_a_role(destination) as writer:
        # The role owns what is made, under settings that are not its own.
        source.run(f'SET ROLE "{reader.connection.username}"', TABLE)
        destination.run(f'SET ROLE "{writer.connection.username}"', TABLE.partition(";")[0])
        yield reader, writer


def test_no_setting_of_a_role_changes_a_value_on_its_way(
    source: Database, destination: Database, roles: tuple[Database, Database], engine: Engine
) -> None:
    source.run(
        f"INSERT INTO items SELECT n, {ROW} FROM generate_series(1, 3) AS n",
        "INSERT INTO keyless SELECT d, i, texts, f FROM items",
    )
    config = pipeline(engine, roles[0], [roles[1]], "items", "keyless")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(
            f"INSERT INTO items SELECT n, {ROW} FROM generate_series(4, 6) AS n",
            # More than a message holds: staged.
            f"INSERT INTO items SELECT n, {ROW} FROM generate_series(10, 2500) AS n",
            "UPDATE items SET touched = 1 WHERE id % 2 = 0",
            "DELETE FROM items WHERE id % 3 = 0",
            "INSERT INTO keyless SELECT d, i, texts, f FROM items LIMIT 3",
            "DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless LIMIT 2)",
            "ALTER TABLE items ADD COLUMN more mood DEFAULT 'sad'",
            "UPDATE items SET touched = 2 WHERE id = 1",
        )
        wait_until_equal(worker, source, destination, "items", "keyless")
    # A second run begins with what the first one remembers.
    source.run("UPDATE items SET touched = 3 WHERE id = 2")
    replicate(config, source, destination)


@only_pgoutput
def test_a_reconciliation_finds_no_difference_that_settings_would_make(
    source: Database, destination: Database, roles: tuple[Database, Database], engine: Engine
) -> None:
    source.run(f"INSERT INTO items SELECT n, {ROW} FROM generate_series(1, 3) AS n")
    config = pipeline(engine, roles[0], [roles[1]], "items")
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        (found,) = reconcile(config)
    assert found.problem is None
    assert () == tuple(found.left)


def test_the_configuration_database_is_kept_under_every_setting(config_database: Database) -> None:
    with of_a_role(config_database) as database, Store(SecretStr(database.url), SecretStr(SECRET_KEY)) as store:
        store.migrate()
        assert [] == store.states()
        with store.connected() as connection:
            assert expected() == values_of(connection)


def test_every_session_has_the_settings_also_one_for_replication(source: Database) -> None:
    with of_a_role(source, "REPLICATION") as database:
        for session in (connect(database.connection, DESTINATION), connect_for_replication(database.connection)):
            with session:
                assert expected() == values_of(session)
        with connect_for_replication(database.connection) as session:
            assert [("1min",)] == session.execute("SHOW wal_sender_timeout").fetchall()


@pytest.mark.parametrize(
    ("given", "kept"), [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")]
)
def test_what_is_confirmed_is_on_the_disk(destination: Database, given: str, kept: str) -> None:
    name = destination.connection.database
    destination.run(f"ALTER DATABASE {name} SET synchronous_commit = {given}")
    with connect(destination.connection, DESTINATION) as session:
        assert (kept,) == session.execute("SHOW synchronous_commit").fetchone()


def expected() -> dict[str, str]:
    """What a session has whatever its role, database and server say."""
    return {setting.name: setting.value for setting in SESSION_SETTINGS if setting.name in AGAINST_US}


def values_of(connection: "psycopg.Connection[Any]") -> dict[str, str]:
    """What the session has, DateStyle without the order of its input."""
    shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in expected() if name in known(connection)}
    values = {name: str(row[0]) for name, row in shown.items() if row is not None}
    return {**expected(), **values, "DateStyle": values["DateStyle"].partition(",")[0]}


def known(connection: "psycopg.Connection[Any]") -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM pg_settings").fetchall()}

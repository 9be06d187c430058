"""Sources that an engine cannot read, or not wholly: refused before anything is copied, or one table is set aside."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.errors import PreflightFailed, TableReplaced
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputSource
from rosetta_dagster.cdc.source.slots import read_slot
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database, current_lsn
from tests.support.engines import only_debezium
from tests.support.pipelines import (
    confirmed_lsn,
    failure,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)

GOOD, BAD = TableId("public", "good"), TableId("public", "bad")


def state_of(worker: Worker, table: TableId) -> TableState | None:
    return worker.report().states.get(table, (None, None))[0]


# --- a database of the encoding SQL_ASCII ---


@pytest.fixture
def unchecked(postgres_server: EmbeddedPostgres, new_database: Callable[[str], Database]) -> Database:
    """A database that takes any bytes as text, with two tables."""
    database = new_database("unchecked")
    name = sql.Identifier(database.connection.database)
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'").format(name))
    database = replace(database, url=make_conninfo(database.url, client_encoding="UTF8"))
    database.run(
        "CREATE TABLE good (id int PRIMARY KEY, name text)",
        "CREATE TABLE bad (id int PRIMARY KEY, name text)",
        "ALTER TABLE bad REPLICA IDENTITY FULL",
        "INSERT INTO good VALUES (1, 'caf\u00e9')",
        "INSERT INTO bad VALUES (1, 'caf\u00e9')",
    )
    return database


def write_a_value_that_is_not_utf8(database: Database) -> None:
    database.run(r"INSERT INTO bad VALUES (2, E'caf\xe9')")


def test_a_table_with_a_value_that_is_not_utf8_is_not_copied_and_the_others_are(
    unchecked: Database, destination: Database, engine: Engine
) -> None:
    write_a_value_that_is_not_utf8(unchecked)
    with running(pipeline(engine, unchecked, [destination], GOOD, BAD)) as worker:
        wait_until(worker, lambda: state_of(worker, BAD) is TableState.ERROR and is_streaming(worker))
        assert "not UTF-8" in str(worker.report().states[BAD][1])
        unchecked.run("INSERT INTO good VALUES (3, 'after')")
        wait_until_equal(worker, unchecked, destination, GOOD)


@pytest.mark.parametrize(
    "change", [r"INSERT INTO bad VALUES (3, E'caf\xe9')", r"UPDATE bad SET name = E'caf\xe9'"], ids=["insert", "update"]
)
def test_a_table_that_gets_a_value_not_in_utf8_is_set_aside_and_the_others_go_on(
    unchecked: Database, destination: Database, engine: Engine, change: str
) -> None:
    config = pipeline(engine, unchecked, [destination], GOOD, BAD)
    replicate(config, unchecked, destination)
    with running(config) as worker:
        unchecked.run(f"BEGIN; INSERT INTO good VALUES (2, 'with \u00e9'); {change}; COMMIT")
        wait_until_equal(worker, unchecked, destination, GOOD)
        wait_until(worker, lambda: state_of(worker, BAD) is TableState.ERROR)
        assert "not UTF-8" in str(worker.report().states[BAD][1])
        assert TableState.STREAMING is state_of(worker, GOOD)
        unchecked.run("INSERT INTO good VALUES (3, 'after')", r"INSERT INTO bad VALUES (4, E'caf\xe9')")
        wait_until_equal(worker, unchecked, destination, GOOD)
    unchecked.run(r"INSERT INTO bad VALUES (5, E'caf\xe9')", "INSERT INTO good VALUES (4, 'between')")
    with running(config) as worker:
        wait_until_equal(worker, unchecked, destination, GOOD)
        unchecked.run("DELETE FROM good WHERE id = 1", "UPDATE good SET name = 'again'")
        wait_until_equal(worker, unchecked, destination, GOOD)
        assert 0 == sum(counts.copied for counts in worker.report().tables.values())


# --- what preflight refuses ---


def refusal(config: PipelineConfig) -> str:
    """Why the pipeline does not run. Nothing was made at the source."""
    with pytest.raises(PreflightFailed) as caught:
        failure(config)
    return str(caught.value)


@only_debezium
def test_a_database_whose_name_debezium_cannot_take_is_refused_before_any_copy(
    new_database: Callable[[str], Database], destination: Database, engine: Engine
) -> None:
    source = new_database("a%41/b")
    source.run("CREATE TABLE good (id int PRIMARY KEY)")
    text = refusal(pipeline(engine, source, [destination], GOOD))
    assert "Debezium cannot connect to the database" in text
    assert "Set pipelines.engine to PGOUTPUT." in text
    assert [] == source.rows("SELECT FROM pg_publication")


@only_debezium
@pytest.mark.usefixtures("quick_beats")
@pytest.mark.parametrize("expression", ["(a::text)", "(a::numeric(10, 2))"])
def test_a_table_without_a_key_is_left_out_for_a_unique_index_on_a_cast(
    source: Database, destination: Database, engine: Engine, expression: str
) -> None:
    source.run(
        "CREATE TABLE bad (a int, c text)", "ALTER TABLE bad REPLICA IDENTITY FULL",
        f"CREATE UNIQUE INDEX ON bad ({expression})", "CREATE TABLE good (id int PRIMARY KEY)",
    )  # fmt: skip
    config = pipeline(engine, source, [destination], GOOD, BAD)
    with running(config) as worker:
        wait_until(worker, lambda: state_of(worker, BAD) is TableState.ERROR and is_streaming(worker))
        source.run("INSERT INTO bad VALUES (1, 'a')")
        written = current_lsn(source)
        wait_until(worker, lambda: confirmed_lsn(source, config) >= written)
        reason = str(worker.report().states[BAD][1])
    assert "Table public.bad has no primary key, and Debezium cannot read the expression ((a)::" in reason


@pytest.mark.parametrize(
    "indexes",
    [
        ["(lower(c))"],
        ["((a + 1))", "((c || 'x'))"],
        ["((c::varchar))", "(a)"],
        ["(a, lower(c))", "(a) INCLUDE (c)"],
        ["(a) WHERE a > 0"],
    ],
    ids=str,
)
def test_other_unique_indexes_of_a_table_without_a_key_do_not_matter(
    source: Database, destination: Database, engine: Engine, indexes: list[str]
) -> None:
    source.run("CREATE TABLE good (a int, c text)", "ALTER TABLE good REPLICA IDENTITY FULL")
    source.run(*(f"CREATE UNIQUE INDEX ON good {index}" for index in indexes))
    with running(pipeline(engine, source, [destination], GOOD)) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO good VALUES (1, 'a')", "UPDATE good SET c = 'b'")
        wait_until_equal(worker, source, destination, GOOD)


def test_a_publication_that_sends_generated_columns_is_refused_with_the_right_cause(
    source: Database, destination: Database, engine: Engine
) -> None:
    source.run(
        "CREATE TABLE good (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "INSERT INTO good VALUES (1)",
        'CREATE PUBLICATION "its-own" FOR TABLE good WITH (publish_generated_columns = stored)',
    )
    config = pipeline(engine, source, [destination], GOOD).model_copy(update={"own_publication_name": "its-own"})
    text = refusal(config)
    assert "sends the generated columns of public.good" in text
    remedy = text[text.index("ALTER PUBLICATION") : text.index(" at the source.")]
    source.run(remedy)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO good VALUES (2)")
        wait_until(worker, lambda: [(1,), (2,)] == destination.rows("SELECT id FROM good ORDER BY 1"))


# --- tables that lose their names ---


def changes_of(source: Database, *statements: str) -> list[Change]:
    """The changes that PGOUTPUT sees in these statements, of a table whose OID is the one from before them."""
    source.run("CREATE PUBLICATION everything FOR ALL TABLES")
    with connect(source.connection) as catalog:
        catalog.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [source.connection.database])
        schemas = read_schemas(catalog, [GOOD])
        (oid,) = catalog.execute("SELECT 'public.good'::regclass::oid::int8").fetchone() or ()
        source.run(*statements)
        slot = read_slot(catalog, source.connection.database)
        assert slot is not None
        stream = PgoutputSource(
            pipeline="shop", connection=source.connection, slot_name=source.connection.database,
            publication_names=["everything"],
            schemas=schemas, held_schemas={}, oids={GOOD: oid},
            read_schema=lambda table: read_schemas(catalog, [table]).get(table), type_name=lambda *_: "text",
            confirmed_flush_lsn=slot.confirmed_flush_lsn,
        ).open([])  # fmt: skip
        end = catalog.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone() or (0,)
        changes: list[Change] = []
        try:
            while (delivery := stream.next(5.0)) is not None:
                changes += delivery.changes
                if delivery.lsn >= end[0]:
                    break
        finally:
            stream.close()
    return changes


def test_changes_of_a_table_go_on_while_it_has_another_name(source: Database) -> None:
    source.run("CREATE TABLE good (id int PRIMARY KEY)")
    found = changes_of(
        source,
        "INSERT INTO good VALUES (1)",
        "ALTER TABLE good RENAME TO away", "INSERT INTO away VALUES (2)",
        "CREATE SCHEMA elsewhere", "ALTER TABLE away SET SCHEMA elsewhere", "INSERT INTO elsewhere.away VALUES (3)",
        "ALTER TABLE elsewhere.away SET SCHEMA public", "ALTER TABLE away RENAME TO good", "INSERT INTO good VALUES (4)",
    )  # fmt: skip
    assert [(GOOD, (b"%d" % number,)) for number in (1, 2, 3, 4)] == [(each.table.id, each.row) for each in found]


def test_another_table_under_the_name_is_not_treated_as_it(source: Database) -> None:
    source.run("CREATE TABLE good (id int PRIMARY KEY)")
    found = changes_of(
        source,
        "INSERT INTO good VALUES (1)",
        "BEGIN; DROP TABLE good; CREATE TABLE good (id int PRIMARY KEY); INSERT INTO good VALUES (2); COMMIT",
    )
    assert [(GOOD, (b"1",)), (GOOD, None)] == [(each.table.id, each.row) for each in found]
    assert isinstance(getattr(found[1].table, "error", None), TableReplaced)

"""Masked columns arrive masked, and nowhere else does Rosetta keep a value of them: copied, spooled, streamed, repaired."""

import hashlib
import hmac
import logging
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, GapPolicy, PipelineConfig, TableConfig, TableState
from rosetta_dagster.cdc.copy import spool
from rosetta_dagster.cdc.destination.snowflake.stage import Upload
from rosetta_dagster.cdc.operate.comparison import compare_row_counts, schema_drift
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.preflight import preflight
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.orders_and_notes import held_up
from tests.support.pipelines import failure, is_streaming, pipeline, running, wait_until
from tests.support.slow_copies import slow_down
from tests.support.snowflake_database import SnowflakeDatabase

PEOPLE, ORDERS = TableId("public", "people"), TableId("public", "orders")
VARIABLE, SALT = "ROSETTA_SECRET_MASK_SALT", "a salt that is long enough"

#: In every value that is masked, in each of its forms.
PLANTED = "planted-value"

MASKS = {"email": "hash", "name": "redact", "phone": "keep_last(4)", "born": "year", "doc": "hash"}

TABLES = (
    "CREATE TABLE people (id int PRIMARY KEY, email text NOT NULL, name text, phone text, born date, doc text, plain text)",
    (
        f"INSERT INTO people SELECT n, '{PLANTED}-' || n, '{PLANTED} \\ ' || E'\t' || n, '{PLANTED} 555-' || 1000 + n,"
        f" date '1970-05-06' + n, repeat('{PLANTED}', 300), 'plain ' || n FROM generate_series(1, 300) AS n"
    ),
    "CREATE TABLE orders (email text, number int, PRIMARY KEY (email, number))",
    f"INSERT INTO orders SELECT '{PLANTED}-' || n % 100, n FROM generate_series(1, 300) AS n",
)

CHANGES = (
    f"UPDATE people SET email = '{PLANTED} other ' || id, plain = 'changed' WHERE id < 20",
    "UPDATE people SET name = NULL, born = NULL WHERE id BETWEEN 20 AND 30",
    "UPDATE people SET id = id + 1000, born = 'infinity' WHERE id BETWEEN 40 AND 50",
    "UPDATE people SET born = '0044-03-15 BC', phone = '123' WHERE id = 60",
    "DELETE FROM people WHERE id BETWEEN 70 AND 80",
    f"INSERT INTO people VALUES (5000, '{PLANTED}', 'x', '{PLANTED} ö1234', '2024-02-29', 'x', 'y')",
    f"UPDATE orders SET email = '{PLANTED}-moved' WHERE number BETWEEN 1 AND 9",
    "DELETE FROM orders WHERE number BETWEEN 10 AND 19",
    f"INSERT INTO orders VALUES ('{PLANTED}-new', 1)",
)


@pytest.fixture(autouse=True)
def salted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SALT)
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)


def masking(engine: Engine, source: Database, destination: Database, *tables: TableConfig) -> PipelineConfig:
    return pipeline(engine, source, [destination]).model_copy(update={"tables": tables})


BOTH = (TableConfig(id=PEOPLE, mask=MASKS), TableConfig(id=ORDERS, mask={"email": "hash"}))


def hashed(text: str | None, salt: str = SALT) -> str | None:
    return None if text is None else hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()


def kept(text: str | None) -> str | None:
    return None if text is None else "***" + (text[-4:] if len(text) > 4 else "")


def wanted_people(source: Database) -> list[tuple[Any, ...]]:
    query = (
        "SELECT id, email, name, phone, CASE WHEN isfinite(born) THEN extract(year FROM born)::int END, doc, plain"
        " FROM people ORDER BY id"
    )
    return [
        (id_, hashed(email), name and "***", kept(phone), born, hashed(doc), plain)
        for id_, email, name, phone, born, doc, plain in source.rows(query)
    ]


def wanted_orders(source: Database) -> list[tuple[Any, ...]]:
    return sorted((hashed(email), number) for email, number in source.rows("SELECT email, number FROM orders"))


def found_people(destination: Database) -> list[tuple[Any, ...]] | None:
    return rows_or_none(destination, "SELECT id, email, name, phone, born, doc, plain FROM people ORDER BY id")


def found_orders(destination: Database) -> list[tuple[Any, ...]] | None:
    found = rows_or_none(destination, "SELECT email, number FROM orders")
    return None if found is None else sorted(found)


def rows_or_none(destination: Database, query: str) -> list[tuple[Any, ...]] | None:
    try:
        return destination.rows(query)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return None


def wait_until_masked(worker: Worker, source: Database, destination: Database) -> None:
    people, orders = wanted_people(source), wanted_orders(source)
    wait_until(
        worker,
        lambda: found_people(destination) == people and found_orders(destination) == orders,
        lambda: [pair for pair in zip(people, found_people(destination) or (), strict=False) if pair[0] != pair[1]][:3],
    )


def files_of(database: Database) -> bytes:
    """Every file of the database, and the server's log. The log of changes is the source's as well."""
    database.run("CHECKPOINT")
    (row,) = database.rows(
        "SELECT current_setting('data_directory'), (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    directory = Path(row[0])
    paths = [*(directory / "base" / str(row[1])).iterdir(), *directory.glob("*log*"), *directory.glob("pgsql_tmp/*")]
    return b"".join(path.read_bytes() for path in paths if path.is_file())


def spooled_by(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what spools write from now on. They keep nothing in memory."""
    written: list[bytes] = []
    monkeypatch.setattr(spool, "MEMORY_LIMIT", 1)
    dumps = pickle.dumps

    def recorded(changes: object) -> bytes:
        written.append(dumps(changes))
        return written[-1]

    monkeypatch.setattr(pickle, "dumps", recorded)
    return written


@pytest.mark.parametrize("engine", list(Engine))
def test_masked_values_are_the_same_however_they_come_and_clear_ones_are_nowhere(
    engine: Engine,
    source: Database,
    destination: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    source.run(*TABLES, "CREATE TABLE first (id int PRIMARY KEY)")
    written, released = spooled_by(monkeypatch), threading.Event()
    with running(pipeline(engine, source, [destination], "first")) as worker:
        wait_until(worker, lambda: is_streaming(worker))
    slow_down(monkeypatch, lambda: held_up(released))
    config = masking(engine, source, destination, TableConfig(id=TableId("public", "first")), *BOTH)
    with running(config) as worker:
        wait_until(worker, lambda: worker.report().states.get(PEOPLE, ("",))[0] is TableState.SNAPSHOT)
        source.run(*CHANGES[:4], f"INSERT INTO orders VALUES ('{PLANTED}-spooled', 9000)")
        wait_until(worker, lambda: len(written) > 1)
        released.set()
        wait_until_masked(worker, source, destination)
        source.run(*CHANGES[4:])
        wait_until_masked(worker, source, destination)
        assert [] == [each for each in compare_row_counts(config, 0.0) if each.differs(0.0)]
        assert [] == schema_drift(config)
        destination.run("DELETE FROM people WHERE id % 3 = 0", "UPDATE people SET plain = 'wrong' WHERE id % 7 = 1")
        of_people, of_orders = reconcile(config, tables=[PEOPLE, ORDERS], repairs=True)
        assert (of_people.problem, of_people.left, of_people.left_out) == (None, (), tuple(MASKS))
        assert "key is masked" in (of_orders.problem or "")
        wait_until_masked(worker, source, destination)
    places = {"files": files_of(destination), "spools": b"".join(written), "logs": caplog.text.encode()}
    for place, text in places.items():
        assert PLANTED.encode() not in text, place
    # That these were searched at all.
    assert b"plain 299" in places["files"]
    assert b"changed" in places["spools"]


@pytest.mark.parametrize("engine", list(Engine))
def test_snowflake_and_its_stage_have_masked_values_only(
    engine: Engine,
    source: Database,
    destination: Database,
    snowflake_database: SnowflakeDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.run(*TABLES)
    staged: list[str] = []
    add = Upload.add

    def recorded(files: Upload, table: Any) -> None:
        staged.append(str(table.to_pylist()))
        add(files, table)

    monkeypatch.setattr(Upload, "add", recorded)
    lake = DestinationConfig(name="lake", type="SNOWFLAKE", config={**snowflake_database.config, "flush_seconds": 1})
    config = masking(engine, source, destination, *BOTH).model_copy(update={"destinations": (lake,)})

    def people() -> list[tuple[Any, ...]]:
        return snowflake_database.rows('SELECT ID, EMAIL, NAME, PHONE, BORN, DOC, PLAIN FROM "PUBLIC".PEOPLE ORDER BY 1')

    def orders() -> list[tuple[Any, ...]]:
        return sorted(snowflake_database.rows('SELECT EMAIL, NUMBER FROM "PUBLIC".ORDERS'))

    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        wait_until(worker, lambda: people() == wanted_people(source) and orders() == wanted_orders(source))
        source.run(*CHANGES)
        wait_until(worker, lambda: people() == wanted_people(source) and orders() == wanted_orders(source))
        assert [] == [each for each in compare_row_counts(config, 0.0) if each.differs(0.0)]
        assert [] == schema_drift(config)
    assert "plain 299" in str(staged)
    assert PLANTED not in str(staged)


@pytest.mark.parametrize("engine", list(Engine))
def test_a_masked_column_that_is_renamed_never_arrives_unmasked(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 3600)
    source.run(*TABLES)
    config = masking(engine, source, destination, *BOTH)
    with running(config) as worker:
        wait_until_masked(worker, source, destination)
        wait_until(worker, lambda: is_streaming(worker))
        source.run(
            "ALTER TABLE people RENAME email TO mail",
            f"INSERT INTO people VALUES (6000, '{PLANTED}', 'x', 'x', NULL, 'x', 'y')",
            f"INSERT INTO orders VALUES ('{PLANTED}', 6000)",
        )
        wait_until(worker, lambda: worker.report().states[PEOPLE][0] is TableState.ERROR)
        wait_until(worker, lambda: found_orders(destination) == wanted_orders(source))
        assert "renamed or replaced" in str(worker.report().states[PEOPLE][1])
    assert PLANTED.encode() not in files_of(destination)
    assert any("has no column email, which mask names" in finding.message for finding in preflight(config))


@pytest.mark.parametrize("engine", list(Engine))
def test_a_masked_column_whose_name_another_column_took_meanwhile_does_not_arrive(
    engine: Engine, source: Database, destination: Database
) -> None:
    """The rules fit the table of now, and the old column is not among them any more."""
    source.run(*TABLES)
    config = masking(engine, source, destination, *BOTH)
    with running(config) as worker:
        wait_until_masked(worker, source, destination)
        wait_until(worker, lambda: is_streaming(worker))
    source.run(
        "ALTER TABLE people RENAME email TO email_old",
        "ALTER TABLE people ADD email text",
        f"INSERT INTO people (id, email_old) VALUES (6000, '{PLANTED}')",
        f"INSERT INTO orders VALUES ('{PLANTED}', 6000)",
    )
    with running(config) as worker:
        wait_until(worker, lambda: found_orders(destination) == wanted_orders(source))
        state, reason = worker.report().states[PEOPLE]
        assert state is TableState.ERROR
        assert "correct mask of the table first" in str(reason)
    assert PLANTED.encode() not in files_of(destination)


@pytest.mark.parametrize("engine", list(Engine))
def test_another_mask_or_salt_copies_the_table_again_whatever_the_policy_is(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run(TABLES[2], TABLES[3], "ALTER TABLE orders ADD note text", "ALTER TABLE orders ADD CHECK (number > 0)")

    def emails(name: Callable[[str], str | None]) -> list[tuple[Any, ...]]:
        return sorted((name(email), number) for email, number in source.rows("SELECT email, number FROM orders"))

    for mask, salt, expected in (
        ({}, SALT, emails(str)),
        ({"email": "hash"}, SALT, emails(hashed)),
        ({"email": "hash"}, SALT * 5, emails(lambda email: hashed(email, SALT * 5))),
    ):
        monkeypatch.setenv(VARIABLE, salt)
        config = masking(engine, source, destination, TableConfig(id=ORDERS, mask=mask))
        config = config.model_copy(update={"on_gap": GapPolicy.STOP_TABLE})
        with running(config) as worker:
            wait_until(worker, lambda expected=expected: found_orders(destination) == expected)  # type: ignore[misc]
            wait_until(worker, lambda: is_streaming(worker))
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        assert all(counts.copied == 0 for counts in worker.report().tables.values())


@pytest.mark.parametrize("engine", list(Engine))
def test_columns_of_every_kind_are_masked_alike_by_copy_and_stream(
    engine: Engine, source: Database, destination: Database
) -> None:
    """The table was copied without masks before, so that the destination's columns have to change their types."""
    row = "'2020-01-31', 'a', '{1,2}', '2020-02-29 01:02:03+00', '{\"a\": \"b\\\\c\"}', 'ab', '\\x00ff', 5551234567"
    source.run(
        "CREATE TYPE mood AS ENUM ('a')",
        "CREATE TABLE kinds (id int PRIMARY KEY, born date NOT NULL, mood mood, tags int[], at timestamptz, doc jsonb,"
        " code char(5), raw bytea, phone bigint)",
        f"INSERT INTO kinds VALUES (1, {row})",
    )
    hashes = dict.fromkeys(("mood", "tags", "doc", "code", "raw"), "hash")
    masks = {**hashes, "born": "year", "at": "year", "phone": "keep_last(4)"}
    for mask in ({}, masks):
        config = masking(engine, source, destination, TableConfig(id=TableId("public", "kinds"), mask=mask))
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            wait_until(worker, lambda: worker.report().states[TableId("public", "kinds")][0] is TableState.STREAMING)
            source.run(f"INSERT INTO kinds SELECT max(id) + 1, {row} FROM kinds")
            wait_until(
                worker, lambda: destination.rows("SELECT max(id) FROM kinds") == source.rows("SELECT max(id) FROM kinds")
            )
    (copied, streamed) = destination.rows("SELECT kinds FROM kinds WHERE id >= 2 ORDER BY id")
    assert copied[0].split(",")[1:] == streamed[0].split(",")[1:]
    (masked,) = destination.rows("SELECT born, mood, tags, at, doc, code, raw, phone FROM kinds WHERE id = 3")
    (texts,) = source.rows("SELECT mood::text, tags::text, doc::text, 'ab   ', raw::text FROM kinds WHERE id = 3")
    assert (2020, 2020, "***4567") == (masked[0], masked[3], masked[7])
    assert tuple(map(hashed, texts)) == (masked[1], masked[2], masked[4], masked[5], masked[6])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"mail": "hash"}, "has no column mail, which mask names; did you mean email"),
        ({"plain": "year"}, "Column plain of table public.people cannot have the mask year: year needs a date"),
        ({"born": "keep_last(2)"}, r"keep_last\(2\) needs a text, a number or a uuid, and it is date"),
        ({"id": "redact"}, "it is of the key, and only hash keeps keys apart"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_copied(
    source: Database, destination: Database, mask: dict[str, str], message: str
) -> None:
    source.run(*TABLES)
    config = masking(Engine.PGOUTPUT, source, destination, TableConfig(id=PEOPLE, mask=mask))
    with pytest.raises(Exception, match=message):
        failure(config)
    assert found_people(destination) is None


@pytest.mark.parametrize(
    ("salt", "message"), [(None, f"variable {VARIABLE} is not set, which holds the salt"), ("short", "fewer than 16 bytes")]
)
def test_hashes_without_a_proper_salt_are_refused(
    source: Database, destination: Database, salt: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run(*TABLES)
    monkeypatch.delenv(VARIABLE) if salt is None else monkeypatch.setenv(VARIABLE, salt)
    with pytest.raises(Exception, match=message) as caught:
        failure(masking(Engine.PGOUTPUT, source, destination, *BOTH))
    assert salt is None or f"'{salt}'" not in str(caught.value)
    assert found_people(destination) is None

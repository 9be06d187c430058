"""A backfill brings rows with a condition while the stream runs, and gives way to what the stream brings."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.beginning import Initial
from rosetta_dagster.cdc.config.pipeline import Status, TableOptions, TableState
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.reconcile import backfill as backfills
from rosetta_dagster.cdc.reconcile.backfill import backfill
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.supervised import Run, put_rows
from tests.support.waiting import eventually

ITEMS = TableId("public", "items")


@contextmanager
def written_to(source: Database) -> Iterator[None]:
    """Somebody who changes the rows that are brought: updates, deletes, and rows that come and go."""
    stop = threading.Event()

    def write() -> None:
        with source.connect() as writer:
            n = 0
            while not stop.wait(0.002):
                n += 1
                writer.execute("UPDATE items SET body = %s WHERE id = %s", [f"changed {n}", n * 37 % 3000])
                writer.execute("DELETE FROM items WHERE id = %s", [n * 53 % 3000])
                writer.execute("INSERT INTO items VALUES (%s, 'new') ON CONFLICT DO NOTHING", [n * 71 % 3000])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        stop.set()
        writing.join()


def items(database: Database, condition: str) -> list[tuple[object, ...]]:
    return database.rows(f"SELECT id, body FROM items WHERE {condition} ORDER BY id")


def test_rows_are_brought_masked(
    store: Store, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROSETTA_SECRET_MASK_SALT", "a salt that is long enough")
    source.run("CREATE TABLE items (id int PRIMARY KEY, body text)", "INSERT INTO items VALUES (1, 'planted'), (2, NULL)")
    options = {ITEMS: TableOptions(initial=Initial.NONE, mask={"body": "keep_last(2)"})}
    name = put_rows(store, source, destination, "public.items", engine=Engine.PGOUTPUT, table_options=options)
    run = Run(store, name)
    try:
        eventually(lambda: store.tables(name)[0].state is TableState.STREAMING)
        done = list(backfill(store, name, ITEMS, "true"))
        assert 2 == done[-1].brought_count
        assert [(1, "***ed"), (2, None)] == items(destination, "true")
    finally:
        store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_rows_are_brought_while_they_are_written(
    engine: Engine, store: Store, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "ROWS_AT_ONCE", 700)
    source.run(
        "CREATE TABLE items (id int PRIMARY KEY, body text)",
        "INSERT INTO items SELECT n, 'old' FROM generate_series(1, 5000) AS n",
    )
    options = {ITEMS: TableOptions(initial=Initial.NONE)}
    name = put_rows(store, source, destination, "public.items", engine=engine, table_options=options)
    run = Run(store, name)
    try:
        eventually(lambda: store.tables(name)[0].state is TableState.STREAMING)
        assert [] == items(destination, "true"), "it began without its rows"
        with written_to(source):
            done = list(backfill(store, name, ITEMS, "id < 3000 -- the older ones"))
        assert done[-1].is_complete
        assert 4 < len(done), "it says how far it is"
        assert 500 < done[-1].brought_count, "the stream has brought the others"
        eventually(lambda: items(source, "id < 3000") == items(destination, "id < 3000"))
        assert [] == items(destination, "id > 3000"), "the others were not asked for"
        again = list(backfill(store, name, ITEMS, "id < 3000"))
        assert 0 == again[-1].brought_count
        source.run("UPDATE items SET body = 'last' WHERE id = 4000", "DELETE FROM items WHERE id < 10")
        eventually(lambda: [(4000, "last")] == items(destination, "id > 3000"))
        eventually(lambda: [] == items(destination, "id < 10"))
    finally:
        store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_backfill_is_refused_with_what_to_do(store: Store, source: Database, destination: Database) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE keyless (id int)")
    name = put_rows(store, source, destination, "public.items", "public.keyless")

    def refusal(table: str, condition: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            list(backfill(store, name, TableId.parse(table), condition))
        return str(caught.value)

    assert "is in state PENDING" in refusal("items", "true")
    with store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET state = 'STREAMING'")
    assert "has no key" in refusal("keyless", "true")
    assert "does not accept the condition" in refusal("items", "true)) TO STDOUT --")
    assert "has no table public.gone" in refusal("gone", "true")
    store.set_status(name, Status.PAUSE)
    assert f"rosetta start {name}" in refusal("items", "true")

"""A table that is paused by itself: the others go on, and nothing that it has is lost when it is resumed."""

import pytest

from rosetta_dagster.cdc.config.pipeline import Status, TableState
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.supervised import Run
from tests.support.waiting import eventually


def test_a_table_is_paused_by_itself_and_copied_when_it_is_resumed(
    own_store: Store, name: str, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0)
    source.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1)")
    notes = TableId("public", "notes")
    with own_store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'notes' FROM pipelines")
    run = Run(own_store, name)
    eventually(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    own_store.pause_table(name, notes, paused=True)
    eventually(lambda: source.rows("SELECT tablename FROM pg_publication_tables WHERE tablename = 'notes'") == [])
    own_store.ask_resync(name, notes)
    source.run("INSERT INTO notes VALUES (2)", "INSERT INTO items VALUES (2)")
    eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
    assert [(1,)] == destination.rows("SELECT id FROM notes")
    assert [TableState.STREAMING, TableState.PAUSED] == [table.state for table in own_store.tables(name)]
    own_store.pause_table(name, notes, paused=False)
    eventually(lambda: [(1,), (2,)] == destination.rows("SELECT id FROM notes ORDER BY 1"))
    eventually(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_paused_table_that_began_without_its_rows_keeps_those_that_it_has(
    own_store: Store, name: str, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To copy it again would empty it, and bring nothing back."""
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0)
    source.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1)")
    notes = TableId("public", "notes")
    with own_store.connected() as connection:
        connection.execute(
            "INSERT INTO pipeline_tables (pipeline_id, table_name, initial) SELECT id, 'notes', 'NONE' FROM pipelines"
        )
    run = Run(own_store, name)
    eventually(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    source.run("INSERT INTO notes VALUES (2)")
    eventually(lambda: [(2,)] == destination.rows("SELECT id FROM notes"))
    own_store.pause_table(name, notes, paused=True)
    eventually(lambda: source.rows("SELECT tablename FROM pg_publication_tables WHERE tablename = 'notes'") == [])
    source.run("INSERT INTO items VALUES (2)")
    eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
    own_store.pause_table(name, notes, paused=False)
    eventually(lambda: own_store.tables(name)[1].state is TableState.ERROR)
    assert "it was paused while the pipeline ran" in str(own_store.tables(name)[1].error)
    assert [(2,)] == destination.rows("SELECT id FROM notes")
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None

"""Destination tables in whose way something stands: views, keys that have changed, types that are missing."""

import re

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import (
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)

T = TableId("public", "t")


@pytest.fixture
def both(source: Database, destination: Database) -> PipelineConfig:
    """A pipeline of two tables that has run once."""
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE other (id int PRIMARY KEY)")
    source.run("INSERT INTO t VALUES (1, 1), (2, 2)")
    config = pipeline(Engine.PGOUTPUT, source, [destination], "t", "other")
    replicate(config, source, destination)
    return config


def reason_why_set_aside(config: PipelineConfig, source: Database, destination: Database, *statements: str) -> str:
    """Run the statements while the pipeline streams; the other table goes on."""
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*statements, "INSERT INTO other SELECT COALESCE(max(id), 0) + 1 FROM other")
        wait_until(worker, lambda: worker.report().states[T][0] is TableState.ERROR)
        wait_until_equal(worker, source, destination, "other")
        return str(worker.report().states[T][1])


def resync(config: PipelineConfig) -> None:
    make_destination(config.destinations[0], config).forget([T])


@pytest.mark.parametrize("is_ahead", [False, True], ids=["while streaming", "at a start"])
def test_a_view_on_a_column_that_is_widened_is_named_with_what_to_run(
    both: PipelineConfig, source: Database, destination: Database, is_ahead: bool
) -> None:
    destination.run(
        "CREATE VIEW doubled AS SELECT id, 2 * v AS twice FROM t",
        "CREATE MATERIALIZED VIEW total AS SELECT sum(twice) FROM doubled",
    )
    widen = "ALTER TABLE t ALTER COLUMN v TYPE bigint"
    if is_ahead:
        source.run(widen)
    statements = ("INSERT INTO t VALUES (3, 3)",) if is_ahead else (widen, "INSERT INTO t VALUES (3, 3000000000)")
    reason = reason_why_set_aside(both, source, destination, *statements)
    assert "Column v of table public.t has to become bigint" in reason
    assert "view public.doubled" in reason
    assert "view public.total" in reason
    found = re.search(r"Run there: (BEGIN; .* COMMIT;)", reason, re.DOTALL)
    assert found is not None
    destination.run(found[1])
    resync(both)
    replicate(both, source, destination)
    assert [(3,)] == destination.rows("SELECT count(*) FROM doubled")


def test_views_do_not_stand_in_the_way_of_a_resync_that_changes_no_type(
    both: PipelineConfig, source: Database, destination: Database
) -> None:
    destination.run("CREATE VIEW doubled AS SELECT id, 2 * v AS twice FROM t")
    resync(both)
    source.run("INSERT INTO t VALUES (3, 3)", "ALTER TABLE t ADD COLUMN w int")
    replicate(both, source, destination)


@pytest.mark.parametrize(
    ("statement", "insert"),
    [
        ("DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, v)", "INSERT INTO t VALUES (1, 7)"),
        ("DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v)", "INSERT INTO t VALUES (1, 7)"),
        ("DROP CONSTRAINT t_pkey, ALTER id DROP NOT NULL, REPLICA IDENTITY FULL", "INSERT INTO t VALUES (1, 1), (NULL, 1)"),
    ],
    ids=["longer", "other", "none"],
)
def test_a_key_that_changed_is_followed_by_a_resync(
    both: PipelineConfig, source: Database, destination: Database, statement: str, insert: str
) -> None:
    source.run(f"ALTER TABLE t {statement}", insert)
    resync(both)
    replicate(both, source, destination)
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'"
    assert source.rows(key) == destination.rows(key)


def test_foreign_keys_that_keep_a_table_from_being_emptied_are_named(
    both: PipelineConfig, source: Database, destination: Database
) -> None:
    destination.run("CREATE TABLE notes (t int REFERENCES t (id))")
    resync(both)
    with running(both) as worker:
        wait_until(worker, lambda: worker.report().states.get(T, (None,))[0] is TableState.ERROR)
        reason = str(worker.report().states[T][1])
    statement = 'ALTER TABLE "public"."notes" DROP CONSTRAINT "notes_t_fkey"'
    assert f"Run there: {statement};" in reason
    destination.run(statement)
    replicate(both, source, destination)


def test_a_table_that_somebody_dropped_and_made_again_is_set_aside_and_not_emptied(
    both: PipelineConfig, source: Database, destination: Database
) -> None:
    destination.run("DROP TABLE t", "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (9, 9)")
    with running(both) as worker:
        wait_until(worker, lambda: worker.report().states.get(T, (None,))[0] is TableState.ERROR)
        assert "was dropped and created again" in str(worker.report().states[T][1])
        source.run("INSERT INTO other VALUES (1)")
        wait_until_equal(worker, source, destination, "other")
    resync(both)
    with running(both) as worker:
        wait_until(worker, lambda: worker.report().states.get(T, (None,))[0] is TableState.ERROR)
        assert "holds rows that Rosetta did not write" in str(worker.report().states[T][1])
    assert [(9, 9)] == destination.rows("SELECT * FROM t")
    destination.run("TRUNCATE t")
    replicate(both, source, destination)


def test_a_destination_that_was_restored_from_a_dump_continues(
    both: PipelineConfig, source: Database, destination: Database
) -> None:
    # A restored database has another OID for every table.
    destination.run(
        "CREATE TABLE restored (LIKE rosetta.copies INCLUDING ALL)",
        "INSERT INTO restored SELECT * FROM rosetta.copies",
        "DROP TABLE rosetta.copied_ranges, rosetta.copies",
        "ALTER TABLE restored RENAME TO copies",
        "ALTER TABLE copies SET SCHEMA rosetta",
        "CREATE TABLE copy (LIKE t INCLUDING ALL)",
        "INSERT INTO copy SELECT * FROM t",
        "DROP TABLE t",
        "ALTER TABLE copy RENAME TO t",
        "ALTER TABLE rosetta.copies ADD FOREIGN KEY (pipeline) REFERENCES rosetta.streams ON DELETE CASCADE",
    )
    copied_at = destination.rows("SELECT finished_at FROM rosetta.copies ORDER BY table_name")
    source.run("INSERT INTO t VALUES (5, 5)")
    replicate(both, source, destination)
    assert copied_at == destination.rows("SELECT finished_at FROM rosetta.copies ORDER BY table_name")


def test_a_table_whose_type_is_missing_does_not_stop_the_others(source: Database, destination: Database) -> None:
    source.run("CREATE EXTENSION vector", "CREATE TABLE t (id int PRIMARY KEY, v vector(2))")
    source.run("CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    with running(pipeline(Engine.PGOUTPUT, source, [destination], "t", "other")) as worker:
        wait_until_equal(worker, source, destination, "other")
        wait_until(worker, lambda: worker.report().states.get(T, (None,))[0] is TableState.ERROR)
        reason = str(worker.report().states[T][1])
    assert "table public.t refuses" in reason
    assert 'type "public.vector" does not exist' in reason

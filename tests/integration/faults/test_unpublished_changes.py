"""Changes that a source makes and does not publish: of tables without a key, of labels, of partitions beyond the log."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PartitionDropPolicy, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.run import copy_budget, source_watch
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, replicate, running, wait_until, wait_until_equal

P = TableId("public", "p")
PARTITIONED = [
    "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
    "INSERT INTO p SELECT n, 'old' FROM generate_series(0, 19) AS n",
]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)


@pytest.fixture
def keyless(source: Database) -> Database:
    source.run(
        "CREATE TABLE items (id int PRIMARY KEY, v text)",
        "CREATE TABLE keyless (v text)",
        "INSERT INTO keyless VALUES ('a')",
    )
    return source


def error(worker: Worker, table: str) -> str:
    state, reason = worker.report().states.get(TableId("public", table), (None, None))
    return (reason or "") if state is TableState.ERROR else ""


def test_a_reset_of_the_counts_hides_no_update(keyless: Database, destination: Database) -> None:
    config = pipeline(Engine.PGOUTPUT, keyless, [destination], "items", "keyless")
    replicate(config, keyless, destination)
    keyless.run("UPDATE keyless SET v = 'while paused'")
    # In a session of its own: the server counts what a session did when it ends.
    keyless.run("SELECT pg_stat_reset()")
    with running(config) as worker:
        wait_until_equal(worker, keyless, destination, "keyless")
        wait_until(worker, lambda: is_streaming(worker))
        keyless.run("UPDATE keyless SET v = 'while it runs'")
        keyless.run("SELECT pg_stat_reset()")
        wait_until_equal(worker, keyless, destination, "keyless")


def test_a_table_that_is_updated_all_the_time_is_set_aside_with_the_remedy(
    keyless: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_budget, "COPY_LIMIT", 2)
    config = pipeline(Engine.PGOUTPUT, keyless, [destination], "items", "keyless")
    with running(config) as worker:
        wait_until_equal(worker, keyless, destination, "keyless")
        wait_until(worker, lambda: is_streaming(worker))

        def is_set_aside() -> bool:
            keyless.run("UPDATE keyless SET v = v || 'b'")
            return bool(error(worker, "keyless"))

        wait_until(worker, is_set_aside)
        assert "Add a primary key" in error(worker, "keyless")
        assert "UPDATE pipeline_tables SET resync = true" in error(worker, "keyless")
        keyless.run("INSERT INTO items VALUES (1, 'a')")
        wait_until_equal(worker, keyless, destination, "items")


def test_a_partition_that_is_unlogged_sets_its_table_aside_until_it_is_logged(
    source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY)", *PARTITIONED)
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items", "p")
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "p")
        wait_until(worker, lambda: is_streaming(worker))
        source.run("ALTER TABLE p1 SET UNLOGGED")
        wait_until(worker, lambda: "Partition public.p1 of table public.p is unlogged" in error(worker, "p"))
        source.run("UPDATE p SET v = 'not logged' WHERE id < 10", "INSERT INTO items VALUES (1)")
        wait_until_equal(worker, source, destination, "items")
        source.run("ALTER TABLE p1 SET LOGGED")
        wait_until_equal(worker, source, destination, "p")


def test_kept_rows_survive_a_copy_of_the_whole_table(source: Database, destination: Database) -> None:
    source.run(*PARTITIONED)
    config = pipeline(Engine.PGOUTPUT, source, [destination], "p")
    config = config.model_copy(update={"on_partition_drop": PartitionDropPolicy.KEEP})
    kept = "SELECT count(*) FROM p WHERE id < 10 AND v = 'old'"
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "p")
        wait_until(worker, lambda: is_streaming(worker))
        source.run("DROP TABLE p1", f"ALTER PUBLICATION {config.publication_name} DROP TABLE p")
        source.run("UPDATE p SET v = 'unpublished'", "INSERT INTO p VALUES (18, 'x') ON CONFLICT DO NOTHING")
        wait_until(worker, lambda: destination.rows("SELECT count(*) FROM p WHERE v = 'unpublished'") == [(10,)])
        assert destination.rows(kept) == [(10,)]
    # As a run leaves it that ends while partitions are copied.
    for row in config.destinations:
        make_destination(row, config).forget([P])
    source.run("UPDATE p SET v = 'meanwhile'")
    with running(config) as worker:
        wait_until(worker, lambda: destination.rows("SELECT count(*) FROM p WHERE v = 'meanwhile'") == [(10,)])
        wait_until(worker, lambda: is_streaming(worker))
        source.run("UPDATE p SET v = 'streamed'", "DELETE FROM p WHERE id = 15")
        wait_until(worker, lambda: destination.rows("SELECT count(*) FROM p WHERE v = 'streamed'") == [(9,)])
        assert destination.rows(kept) == [(10,)]


def test_a_truncated_table_of_a_publication_of_all_tables_is_not_copied_again(
    keyless: Database, destination: Database
) -> None:
    keyless.run("DROP TABLE keyless", "INSERT INTO items VALUES (1, 'a')", "CREATE PUBLICATION mine FOR ALL TABLES")
    config = pipeline(Engine.PGOUTPUT, keyless, [destination], "items")
    config = config.model_copy(update={"own_publication_name": "mine"})
    with running(config) as worker:
        wait_until_equal(worker, keyless, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        keyless.run("TRUNCATE items", "INSERT INTO items VALUES (2, 'b'), (3, 'c')")
        wait_until_equal(worker, keyless, destination, "items")
        # An inspection that is later than the TRUNCATE records this change of the catalog.
        state = "SELECT source_columns #>> '{fingerprint,columns}' FROM rosetta.copies"
        before = destination.rows(state)
        keyless.run("ALTER TABLE items ALTER v SET STATISTICS 10")
        wait_until(worker, lambda: destination.rows(state) != before)
    # A copy would have begun with that change, and is counted when the run has ended.
    assert worker.report().tables[TableId("public", "items")].copied == 1


@pytest.mark.parametrize("was_stored_by", ["an earlier version", "this version"])
def test_a_renamed_label_of_a_known_type_is_noticed(source: Database, destination: Database, was_stored_by: str) -> None:
    source.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE items (id int PRIMARY KEY, v text)",
        "INSERT INTO items VALUES (1, 'a')",
    )
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    if was_stored_by == "an earlier version":
        source.run("ALTER TABLE items ADD m mood DEFAULT 'sad'")
        replicate(config, source, destination)
        for field in ("type_texts", "counted_since", "toast", "is_unidentified"):
            destination.run(f"UPDATE rosetta.copies SET source_columns = source_columns #- '{{fingerprint,{field}}}'")
    else:
        replicate(config, source, destination)
        source.run("ALTER TABLE items ADD m mood DEFAULT 'sad'", "INSERT INTO items VALUES (2, 'b')")
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        counts = worker.report().tables.get(TableId("public", "items"))
        assert counts is None or counts.copied == 0, "nothing is copied for an upgrade, or for a new column"
        source.run("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
        wait_until_equal(worker, source, destination, "items")


@pytest.mark.parametrize("engine", list(Engine))
def test_another_column_under_the_name_of_a_dropped_one_sets_the_table_aside(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (1, 'a'), (2, 'b')")
    source.run("CREATE TABLE notes (id int PRIMARY KEY)")
    config = pipeline(engine, source, [destination], "items", "notes")
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        # The stream describes the table as it did before.
        source.run("ALTER TABLE items DROP v", "ALTER TABLE items ADD v text DEFAULT 'other'")

        def is_set_aside() -> bool:
            source.run("UPDATE items SET v = v || 'x' WHERE id = 1")
            return "column v was added after one of this name was dropped" in error(worker, "items")

        wait_until(worker, is_set_aside)


def test_an_unlogged_table_is_reported_as_unlogged(source: Database, destination: Database) -> None:
    source.run(
        "CREATE TABLE items (id int PRIMARY KEY)",
        "CREATE UNLOGGED TABLE notes (id int PRIMARY KEY)",
        "CREATE PUBLICATION mine FOR ALL TABLES",
    )
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items", "notes")
    with running(config.model_copy(update={"own_publication_name": "mine"})) as worker:
        wait_until(worker, lambda: "is unlogged" in error(worker, "notes"))


@pytest.mark.parametrize("engine", list(Engine))
def test_a_schema_that_had_another_name_for_a_moment_hides_no_change(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run("CREATE SCHEMA shop", "CREATE TABLE shop.items (id int PRIMARY KEY, v text)")
    items = TableId("shop", "items")
    config = pipeline(engine, source, [destination], items)
    renamed = ["ALTER SCHEMA shop RENAME TO x", "INSERT INTO x.items VALUES ({})", "ALTER SCHEMA x RENAME TO shop"]
    replicate(config, source, destination)
    source.run(*(statement.format(1) for statement in renamed))
    with running(config) as worker:
        wait_until_equal(worker, source, destination, items)
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*(statement.format(2) for statement in renamed))
        wait_until_equal(worker, source, destination, items)

"""Tables that begin with some of their rows, or with none: what arrives, and what happens after a gap."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.beginning import Initial
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig, TableState
from rosetta_dagster.cdc.operate.comparison import compare_row_counts
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.preflight import preflight
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.orders_and_notes import forget, table_state
from tests.support.pipelines import is_streaming, pipeline, running, wait_until

RECENT, NEW, WHOLE = (TableId("public", name) for name in ("recent", "new", "whole"))


@pytest.fixture
def shop(engine: Engine, source: Database, destination: Database) -> PipelineConfig:
    for name in ("recent", "new", "whole"):
        source.run(
            f"CREATE TABLE {name} (id int PRIMARY KEY, n int, body text)",
            f"INSERT INTO {name} SELECT n, 0, 'old' FROM generate_series(1, 1000) AS n",
        )
    config = pipeline(engine, source, [destination])
    tables = (
        TableConfig(id=RECENT, copy_where="id > 900 -- the last hundred"),
        TableConfig(id=NEW, initial=Initial.NONE),
        TableConfig(id=WHOLE),
    )
    return config.model_copy(update={"tables": tables})


def wait_until_streaming(worker: Worker, *tables: TableId) -> None:
    wait_until(worker, lambda: is_streaming(worker) and all(table_state(worker, t) is TableState.STREAMING for t in tables))


def rows(database: Database, table: TableId) -> list[tuple[object, ...]]:
    return database.rows(f"SELECT id, n, body FROM {table.name} ORDER BY id")


def wait_for_rows(worker: Worker, database: Database, table: TableId, expected: list[tuple[object, ...]]) -> None:
    wait_until(worker, lambda: rows(database, table) == expected, lambda: (len(rows(database, table)), len(expected)))


def test_changes_of_all_rows_arrive_whatever_was_copied(
    shop: PipelineConfig, source: Database, destination: Database
) -> None:
    recent: list[tuple[object, ...]] = [(n, 0, "old") for n in range(901, 1001)]
    with running(shop) as worker:
        wait_until_streaming(worker, RECENT, NEW, WHOLE)
        wait_for_rows(worker, destination, RECENT, recent)
        wait_for_rows(worker, destination, NEW, [])
        for table in ("recent", "new"):
            source.run(
                "BEGIN",
                f"INSERT INTO {table} VALUES (2000, 1, 'new')",
                f"UPDATE {table} SET n = 1 WHERE id IN (5, 950)",
                f"DELETE FROM {table} WHERE id IN (6, 951)",
                "COMMIT",
            )
        changed: list[tuple[object, ...]] = [(5, 1, "old"), (950, 1, "old"), (2000, 1, "new")]
        wait_for_rows(worker, destination, NEW, changed)
        kept = [row for row in recent if row[0] not in (950, 951)]
        wait_for_rows(worker, destination, RECENT, sorted([*kept, *changed], key=lambda row: int(str(row[0]))))
        assert {WHOLE} == {each.table for each in compare_row_counts(shop, 0.0)}
        problems = {each.table: each.problem for each in reconcile(shop)}
        assert problems[WHOLE] is None
        assert "never have been copied" in str(problems[RECENT])
        assert "never have been copied" in str(problems[NEW])
    with running(shop) as worker:
        wait_until_streaming(worker, RECENT, NEW, WHOLE)
        source.run("INSERT INTO new VALUES (3000, 1, 'later')")
        wait_for_rows(worker, destination, NEW, [*changed, (3000, 1, "later")])


def test_a_gap_sets_the_table_aside_and_a_resync_begins_it_again(
    shop: PipelineConfig, source: Database, destination: Database
) -> None:
    with running(shop) as worker:
        wait_until_streaming(worker, RECENT, NEW, WHOLE)
        source.run("INSERT INTO new VALUES (2000, 1, 'new')")
        wait_for_rows(worker, destination, NEW, [(2000, 1, "new")])
    # Another table under the name: nothing of it was ever in the stream.
    source.run("ALTER TABLE new RENAME TO gone", "CREATE TABLE new (id int PRIMARY KEY, n int, body text)")
    with running(shop) as worker:
        wait_until(worker, lambda: table_state(worker, NEW) is TableState.ERROR)
        wait_until_streaming(worker, RECENT, WHOLE)
        reason = str(worker.report().states[NEW][1])
        assert "resync = true" in reason
        source.run("INSERT INTO whole VALUES (2000, 1, 'new')")
        wait_until(worker, lambda: len(rows(destination, WHOLE)) == 1001)
        assert [(2000, 1, "new")] == rows(destination, NEW), "what is there stays"
    with running(shop) as worker:
        # A second attempt finds the same, and goes on without the table, too.
        wait_until(worker, lambda: table_state(worker, NEW) is TableState.ERROR and is_streaming(worker))
    forget(shop, NEW)
    with running(shop) as worker:
        wait_until_streaming(worker, RECENT, NEW, WHOLE)
        wait_for_rows(worker, destination, NEW, [])
        source.run("INSERT INTO new VALUES (1, 1, 'begun')")
        wait_for_rows(worker, destination, NEW, [(1, 1, "begun")])


@pytest.mark.parametrize(
    "condition",
    [
        "id >",
        "nothing > 5",
        "true) UNION SELECT 1, 2, 'x' FROM public.whole WHERE (true",
        "true)) TO STDOUT --",
        # Each of these fits one of the two places.
        "true) UNION SELECT 1 FROM public.whole WHERE (true",
        "true THEN 1 END, CASE WHEN true",
        "true; DROP TABLE whole",
    ],
)
def test_a_text_that_is_not_one_condition_is_refused(source: Database, destination: Database, condition: str) -> None:
    source.run("CREATE TABLE recent (id int PRIMARY KEY, n int, body text)", "CREATE TABLE whole (id int PRIMARY KEY)")
    config = pipeline(Engine.PGOUTPUT, source, [destination])
    table = TableConfig(id=RECENT, copy_where=condition)
    findings = preflight(config.model_copy(update={"tables": (table, TableConfig(id=WHOLE))}))
    (error,) = [finding for finding in findings if finding.is_error]
    assert RECENT == error.table
    assert "does not accept the condition in copy_where of table public.recent" in error.message


def test_a_partitioned_table_begins_whole(source: Database, destination: Database) -> None:
    source.run("CREATE TABLE recent (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    config = pipeline(Engine.PGOUTPUT, source, [destination])
    table = TableConfig(id=RECENT, initial=Initial.NONE)
    (error,) = [each for each in preflight(config.model_copy(update={"tables": (table,)})) if each.is_error]
    assert "is partitioned" in error.message

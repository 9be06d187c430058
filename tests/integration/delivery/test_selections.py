"""Selected rows and columns arrive, and nothing else: copied, streamed, counted, compared and repaired."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, GapPolicy, PipelineConfig, TableConfig
from rosetta_dagster.cdc.operate.comparison import compare_row_counts, schema_drift
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.engines import debezium_in_the_long_run
from tests.support.pipelines import is_streaming, pipeline, running, wait_until
from tests.support.snowflake_database import SnowflakeDatabase

T = TableId("public", "t")

#: What a pipeline of the tests replicates, as a query at the source.
WANTED = "SELECT id, tenant, name FROM t WHERE tenant = 7 ORDER BY 1, 2"

TABLE = (
    "CREATE TABLE t (id int, tenant int, name text, ssn text, PRIMARY KEY (tenant, id))",
    "INSERT INTO t SELECT n, n % 10, 'name ' || n, 'secret ' || n FROM generate_series(1, 1000) AS n",
)


#: Debezium cannot read this column, and does not have to.
UNREADABLE = "ALTER TABLE t ADD at timetz DEFAULT '10:00+02'"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)


def selecting(
    engine: Engine, source: Database, destinations: Sequence[Database], *tables: TableConfig, **options: Any
) -> PipelineConfig:
    return pipeline(engine, source, destinations).model_copy(update={"tables": tables, **options})


def wait_until_rows(
    worker: Worker, source: Database, found: Callable[[], list[tuple[Any, ...]] | None], query: str = WANTED
) -> None:
    wait_until(worker, lambda: found() == source.rows(query), lambda: (source.rows(query)[:5], (found() or [])[:5]))


def rows_of(destination: Database, columns: str = "id, tenant, name") -> Callable[[], list[tuple[Any, ...]] | None]:
    def found() -> list[tuple[Any, ...]] | None:
        try:
            return destination.rows(f"SELECT {columns} FROM t ORDER BY 1, 2")
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return None

    return found


def columns_of(destination: Database) -> list[str]:
    query = "SELECT attname::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in destination.rows(query)]


def moves(count: int, seed: int = 1) -> list[str]:
    """Changes that move rows across the filter, of one row each."""
    chosen, statements = random.Random(seed), []
    for number in range(count):
        tenant, other, row = chosen.choice((7, 7, 5, 3)), chosen.choice((7, 7, 5, 6)), chosen.randint(1, 1500)
        key, taken = f"(tenant, id) = ({tenant}, {row})", f"SELECT FROM t AS o WHERE (o.tenant, o.id) = ({other}, {row})"
        kinds = (
            f"UPDATE t SET tenant = {other} WHERE {key} AND NOT EXISTS ({taken})",
            f"UPDATE t SET name = 'changed {number}', ssn = 'secret {number}' WHERE id = {row}",
            f"INSERT INTO t VALUES ({row}, {tenant}, 'new {number}', 'secret') ON CONFLICT DO NOTHING",
            f"DELETE FROM t WHERE {key}",
        )
        statements.append(chosen.choice(kinds))
    return statements


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("engine", list(Engine))
def test_rows_that_move_across_the_filter_come_and_go_at_both_destinations(
    engine: Engine, count: int, source: Database, destination: Database, snowflake_database: SnowflakeDatabase
) -> None:
    source.run(*TABLE, UNREADABLE)
    table = TableConfig(id=T, exclude=("ssn", "at"), where="tenant = 7")
    config = selecting(engine, source, [destination], table)
    lake = DestinationConfig(name="lake", type="SNOWFLAKE", config={**snowflake_database.config, "flush_seconds": 1})
    config = config.model_copy(update={"destinations": (*config.destinations, lake)})

    def at_snowflake() -> list[tuple[Any, ...]]:
        return snowflake_database.rows('SELECT ID, TENANT, NAME FROM "PUBLIC".T ORDER BY 1, 2')

    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        wait_until_rows(worker, source, rows_of(destination))
        statements = moves(count)
        for start in range(0, len(statements), 50):
            source.run("BEGIN", *statements[start : start + 50], "COMMIT")
        wait_until_rows(worker, source, rows_of(destination))
        wait_until_rows(worker, source, at_snowflake)
        assert [] == [each for each in compare_row_counts(config, 0.0) if each.differs(0.0)]
        assert [] == [each for each in schema_drift(config) if each.destination == "replica_0"]
        destination.run("DELETE FROM t WHERE id % 3 = 0", "INSERT INTO t VALUES (9999, 3, 'planted')")
        found, _ = reconcile(config, mend=True)
        assert (found.problem, found.left) == (None, ())
        assert found.repaired_count > 1
        assert rows_of(destination)() == source.rows(WANTED)
    assert ["id", "tenant", "name"] == columns_of(destination)


@debezium_in_the_long_run
def test_another_selection_copies_the_table_again_whatever_the_policy_is(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run(*TABLE)
    selections = [
        (TableConfig(id=T, columns=("id", "tenant")), "id, tenant", "SELECT id, tenant FROM t ORDER BY 1, 2"),
        (TableConfig(id=T, where="tenant > 4"), "id, ssn", "SELECT id, ssn FROM t WHERE tenant > 4 ORDER BY 1, 2"),
        (TableConfig(id=T), "id, tenant, name, ssn", "SELECT id, tenant, name, ssn FROM t ORDER BY 1, 2"),
    ]
    for table, columns, query in selections:
        config = selecting(engine, source, [destination], table, on_gap=GapPolicy.STOP_TABLE)
        with running(config) as worker:
            wait_until_rows(worker, source, rows_of(destination, columns), query)
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO t VALUES (5000, 9, 'new', 'new'), (5001, 1, 'new', 'new')")
            wait_until_rows(worker, source, rows_of(destination, columns), query)
            source.run("DELETE FROM t WHERE id >= 5000")
            wait_until_rows(worker, source, rows_of(destination, columns), query)
        # These are in the log as the old selection sent them, and are read after the new one is set.
        source.run("INSERT INTO t VALUES (5002, 9, 'new', 'new')", "UPDATE t SET ssn = 'changed' WHERE id % 7 = 0")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        assert all(counts.copied == 0 for counts in worker.report().tables.values())


@pytest.mark.parametrize("engine", list(Engine))
def test_a_column_that_is_added_later_follows_the_rule(engine: Engine, source: Database, destination: Database) -> None:
    source.run(*TABLE, UNREADABLE)
    config = selecting(engine, source, [destination], TableConfig(id=T, exclude=("ssn", "at")))
    with running(config) as worker:
        wait_until_rows(worker, source, rows_of(destination), WANTED.replace("WHERE tenant = 7", ""))
        wait_until(worker, lambda: is_streaming(worker))
        source.run("ALTER TABLE t ADD extra text", "UPDATE t SET extra = 'more ' || id WHERE id < 50")
        wait_until(worker, lambda: "extra" in columns_of(destination))
        wait_until_rows(worker, source, rows_of(destination, "id, extra"), "SELECT id, extra FROM t ORDER BY 1, 2")
        source.run("UPDATE t SET extra = 'streamed' WHERE id = 60")
        wait_until_rows(worker, source, rows_of(destination, "id, extra"), "SELECT id, extra FROM t ORDER BY 1, 2")
    assert "ssn" not in columns_of(destination)


@pytest.mark.parametrize("engine", list(Engine))
def test_a_large_value_that_came_into_the_filter_without_being_logged_is_copied(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run(TABLE[0], "ALTER TABLE t ALTER name SET STORAGE EXTERNAL")
    source.run("INSERT INTO t SELECT n, n, repeat('x', 10000), '' FROM generate_series(1, 9) AS n")
    config = selecting(engine, source, [destination], TableConfig(id=T, where="tenant = 7"))
    with running(config) as worker:
        wait_until_rows(worker, source, rows_of(destination))
        wait_until(worker, lambda: is_streaming(worker))
        # The update does not log the name again.
        source.run("UPDATE t SET tenant = 7 WHERE id = 3")
        wait_until_rows(worker, source, rows_of(destination))
        source.run("UPDATE t SET tenant = 8 WHERE id = 7")
        wait_until_rows(worker, source, rows_of(destination))


@pytest.mark.parametrize("engine", list(Engine))
def test_a_partitioned_table_is_selected_as_a_whole(engine: Engine, source: Database, destination: Database) -> None:
    source.run(
        f"{TABLE[0]} PARTITION BY LIST (tenant)",
        *(f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES IN ({', '.join(map(str, range(n, 10, 3)))})" for n in range(3)),
        TABLE[1],
    )
    config = selecting(engine, source, [destination], TableConfig(id=T, exclude=("ssn",), where="tenant IN (7, 8)"))
    query = WANTED.replace("= 7", "IN (7, 8)")
    with running(config) as worker:
        wait_until_rows(worker, source, rows_of(destination), query)
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*moves(300))
        wait_until_rows(worker, source, rows_of(destination), query)


@pytest.mark.parametrize("engine", list(Engine))
def test_a_selection_in_a_publication_of_the_users_own_is_followed(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run(*TABLE, UNREADABLE, "CREATE PUBLICATION mine FOR TABLE t (id, tenant, name) WHERE (tenant = 7)")
    config = selecting(engine, source, [destination], TableConfig(id=T), own_publication_name="mine")
    with running(config) as worker:
        wait_until_rows(worker, source, rows_of(destination))
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*moves(300))
        wait_until_rows(worker, source, rows_of(destination))
        # It is a change like one of the table's options.
        source.run("ALTER PUBLICATION mine SET TABLE t (id, tenant, name) WHERE (tenant < 7)")
        wait_until_rows(worker, source, rows_of(destination), WANTED.replace("= 7", "< 7"))
    assert "ssn" not in columns_of(destination)

"""Workers that are killed while they write to Snowflake: what is there in the end is what the source has."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.worker_process import worker_of

CREATE = (
    "CREATE TABLE items (id int PRIMARY KEY, name text, amount numeric(12,2))",
    "CREATE TABLE notes (name text)",
    "ALTER TABLE notes REPLICA IDENTITY FULL",
    "INSERT INTO items SELECT n, 'old', 0 FROM generate_series(1, 5000) AS n",
)
QUERIES = {"items": "SELECT id, name, amount FROM {}", "notes": "SELECT name FROM {}"}


@dataclass(frozen=True, kw_only=True)
class Ordeal:
    """How much is written, and how often the worker is killed meanwhile."""

    change_count: int
    kill_count: int
    #: Seconds that a worker lives, at least and at most.
    life: tuple[float, float]
    #: Seconds until the last worker has caught up.
    limit: float


SHORT = Ordeal(change_count=6_000, kill_count=2, life=(0.8, 2.0), limit=60)
LONG = Ordeal(change_count=200_000, kill_count=10, life=(1.5, 6.0), limit=400)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ordeal", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
def test_workers_may_be_killed_at_any_moment(
    source: Database,
    snowflake_database: SnowflakeDatabase,
    record_property: Callable[[str, object], None],
    ordeal: Ordeal,
) -> None:
    source.run(*CREATE)
    config, seed = pipeline(source, snowflake_database), random.randrange(1_000_000)
    dice, written = random.Random(seed), threading.Event()
    writer = threading.Thread(target=write, args=(source, ordeal.change_count, written))
    writer.start()
    for _ in range(ordeal.kill_count):
        with worker_of(config) as worker:
            time.sleep(dice.uniform(*ordeal.life))
            assert worker.poll() is None, "the worker ended by itself"
            worker.kill()
    writer.join()
    assert written.is_set(), "the writer failed"
    with worker_of(config) as worker:
        deadline = time.monotonic() + ordeal.limit
        while not are_equal(source, snowflake_database):
            assert worker.poll() is None, "the worker ended by itself"
            assert time.monotonic() < deadline, f"seed {seed}"
            time.sleep(0.2)
    record_property("seed", seed)


def pipeline(source: Database, destination: SnowflakeDatabase) -> PipelineConfig:
    row = DestinationConfig(name="dw", type="SNOWFLAKE", config={**destination.config, "flush_seconds": 0.3})
    return PipelineConfig(
        id=1,
        name=source.connection.database,
        engine=Engine.PGOUTPUT,
        source=SourceConfig(name="the_source", connection=source.connection),
        destinations=(row,),
        tables=tuple(TableConfig(id=TableId("public", name)) for name in QUERIES),
    )


def write(source: Database, change_count: int, written: threading.Event) -> None:
    """Rounds of 1,000 changes: rows that come, change, get another key and go, and equal rows without a key."""
    with source.connect() as connection:
        for number in range(change_count // 1000):
            first = 10_000 + 1000 * number
            connection.execute(f"INSERT INTO items SELECT n, 'new', 1 FROM generate_series({first}, {first + 399}) AS n")
            connection.execute(f"UPDATE items SET amount = amount + 0.5 WHERE id BETWEEN {first} AND {first + 199}")
            connection.execute(f"UPDATE items SET id = -id WHERE id BETWEEN {first} AND {first + 49}")
            connection.execute(f"DELETE FROM items WHERE id BETWEEN {first + 100} AND {first + 149}")
            connection.execute("INSERT INTO notes SELECT 'note ' || n % 5 FROM generate_series(1, 280) AS n")
            connection.execute("DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes LIMIT 20)")
            # So that the kills fall between the transactions, not after them.
            time.sleep(0.1)
    written.set()


def are_equal(source: Database, destination: SnowflakeDatabase) -> bool:
    try:
        return all(_same(source, destination, table) for table in QUERIES)
    except RosettaError:
        # There is no such table yet.
        return False


def _same(source: Database, destination: SnowflakeDatabase, table: str) -> bool:
    count = f"SELECT count(*) FROM {{}}.{table}"
    if source.rows(count.format("public"))[0][0] != destination.rows(count.format('"PUBLIC"'))[0][0]:
        return False
    query = QUERIES[table]
    return _sorted(source.rows(query.format(table))) == _sorted(destination.rows(query.format(f'"PUBLIC".{table}')))


def _sorted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows)

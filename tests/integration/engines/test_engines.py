"""A pipeline may change its capture engine at any time: each continues exactly where the other was."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from tests.conftest import Database
from tests.integration.delivery import test_replication as replication

TABLES = ("items", "notes")

CREATE = (
    "CREATE TABLE items (id int PRIMARY KEY, name text)",
    "CREATE TABLE notes (name text)",
    "ALTER TABLE notes REPLICA IDENTITY FULL",
)


def changes(number: int) -> tuple[str, ...]:
    """Transactions that cannot be done twice unnoticed: rows without a key, rows of one page, a changed key."""
    first = number * 1000
    return (
        f"INSERT INTO notes SELECT 'note ' || n % 7 FROM generate_series({first}, {first + 20}) AS n",
        f"INSERT INTO items SELECT n, 'item' FROM generate_series({first}, {first + 300}) AS n",
        f"UPDATE items SET id = id + 500 WHERE id BETWEEN {first} AND {first + 100}",
        "DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes LIMIT 3)",
    )


@pytest.mark.parametrize("first", list(Engine))
@pytest.mark.parametrize("is_confirmed", [True, False], ids=["confirmed", "repeated"])
def test_an_engine_continues_where_the_other_was(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch, first: Engine, is_confirmed: bool
) -> None:
    source.run(*CREATE)
    if not is_confirmed:
        # The slot stays where it is, so each run is sent everything again and has to know what is held.
        for stream in (DebeziumStream, PgoutputStream):
            monkeypatch.setattr(stream, "commit", lambda *_: None)
    other = next(engine for engine in Engine if engine is not first)
    for number, engine in enumerate((first, other, first)):
        monkeypatch.setattr(replication, "ENGINE", engine)
        config = replication.pipeline(source, [destination], *TABLES)
        source.run(*changes(10 * number + 1))
        with replication.running(config) as worker:
            replication.wait_until(worker, lambda worker=worker: replication.is_streaming(worker))  # type: ignore[misc]
            source.run(*changes(10 * number + 2))
            replication.wait_until_equal(worker, source, destination, *TABLES)
        # The first transaction of the next run comes while nobody streams.
        source.run(*changes(10 * number + 3))

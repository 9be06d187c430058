"""Two tables, one with a key and one without, with changes that cannot be done twice unnoticed."""

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.run.worker import Worker
from tests.support.database import Database
from tests.support.pipelines import is_streaming, reader_of_slot, running, started, wait_until, wait_until_equal

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


def streaming(config: PipelineConfig, source: Database, destination: Database) -> Worker:
    """A run that has come so far that changes arrive."""
    worker = started(config)
    source.run(*changes(1))
    wait_until_equal(worker, source, destination, *TABLES)
    wait_until(worker, lambda: is_streaming(worker) and reader_of_slot(source, config) is not None)
    source.run(*changes(2))
    wait_until_equal(worker, source, destination, *TABLES)
    return worker


def assert_continues(config: PipelineConfig, source: Database, destination: Database) -> None:
    """A new run goes on where the last one was, without a new copy, and changes keep coming."""
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *TABLES)
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*changes(9))
        wait_until_equal(worker, source, destination, *TABLES)
        assert 0 == sum(counts.copied for counts in worker.report().tables.values())

"""Every type through a whole pipeline with the engine PGOUTPUT: copied, streamed, and updated around unsent values.

Both databases are on a server whose defaults would change most text forms.
"""

import itertools
from collections.abc import Iterator

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.every_value import (
    CREATE_TYPES,
    LOSSLESS_SESSION,
    UNUSUAL_SETTINGS,
    expressions_of,
)
from tests.support.pipelines import is_streaming, pipeline, running, wait_until
from tests.support.servers import named_install, server_for_sources


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with server_for_sources(UNUSUAL_SETTINGS) as made:
        yield made


def test_every_value_of_every_type_arrives(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Database(url=server.create_database("source"))
    destination = Database(url=server.create_database("destination"))
    for database in (destination, source):
        database.run(CREATE_TYPES)
        with database.connect() as connection:
            cases = expressions_of(connection)
    assert named_install() or "vector" in cases
    assert 100 < len(cases)
    tables = [f"t{number}" for number in range(len(cases))]
    for table, (type_, expressions) in zip(tables, cases.items(), strict=True):
        source.run(
            f"CREATE TABLE {table} (id int PRIMARY KEY, v {type_}, touched int)",
            f"INSERT INTO {table} VALUES (-1, NULL)",
            *(f"INSERT INTO {table} VALUES ({n}, ({value})::{type_})" for n, value in enumerate(expressions)),
        )
    config = pipeline(Engine.PGOUTPUT, source, [destination], *tables)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        changes = ("INSERT INTO {0} SELECT id + 1000, v, 0 FROM {0}", "UPDATE {0} SET touched = 1")
        source.run(*(change.format(table) for table, change in itertools.product(tables, changes)))
        wait_until_printed_the_same(worker, source, destination, tables)


def wait_until_printed_the_same(worker: Worker, source: Database, destination: Database, tables: list[str]) -> None:
    """Compared as PostgreSQL prints the values under settings that lose nothing."""
    part = "SELECT '{0}', id, ROW(v, touched)::text, pg_typeof(v)::text FROM {0}"
    query = " UNION ALL ".join(map(part.format, tables))

    def printed(database: Database) -> list[tuple[object, ...]]:
        with database.connect() as connection:
            connection.execute(LOSSLESS_SESSION)
            return sorted(connection.execute(query).fetchall())

    expected = printed(source)
    wait_until(worker, lambda: len(printed(destination)) == len(expected))
    wait_until(worker, lambda: printed(destination) == expected)

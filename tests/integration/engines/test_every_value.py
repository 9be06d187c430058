"""Every type through a whole pipeline with the engine PGOUTPUT: copied, streamed, and updated around unsent values.

Both databases are on a server whose defaults would change most text forms.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.integration.engines.test_debezium_values import (
    _SERVER_SETTINGS,
    _SESSION,
    _TYPES,
    EXACT,
    REFUSED_VALUES,
    TOASTED,
    _lacks,
)
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, running, wait_until

#: What Debezium refuses as a type.
_REFUSED_BY_DEBEZIUM: Final[Mapping[str, list[str]]] = {
    "timetz": ["'10:00:00.5+05:30'", "'24:00-12'"],
    "bit varying": ["B'101'", "B''"],
    "bit varying(5)": ["B'1'"],
    "int2vector": ["'1 2'"],
    "oidvector": ["'1 2'"],
    "flags": ["B'101'"],
    "offset_time": ["'10:00+02'"],
    "time[]": ["'{10:00,24:00,NULL}'"],
    "timetz[]": ["'{10:00+01}'"],
    "interval[]": ["'{1 mon,-2 days 03:00,infinity}'"],
    "money[]": ["'{1.5}'"],
    "name[]": ["'{a,\"b c\"}'"],
    "point[]": ["'{\"(1,2)\"}'"],
    "bit(3)[]": ["'{101}'"],
    "bit varying[]": ["'{1,01}'"],
    "refcursor[]": ["'{a}'"],
    "integer[]": ["'[0:1]={1,2}'"],
    "numeric[]": ["'{NaN,Infinity,1.50}'"],
    "mood[]": ["'{sad,NULL}'"],
    "date": ["'4713-01-01 BC'"],
    # Of the extension pgvector.
    "vector": ["'[1,2.5,-3e-10]'"],
    "vector(2)": ["'[0,1]'"],
    "halfvec(2)": ["'[0.5,1]'"],
    "sparsevec(5)": ["'{1:1.5,5:-2}/5'"],
    "vector[]": ["array['[1,2]'::vector, NULL]"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings=_SERVER_SETTINGS) as made:
        yield made


def expressions_of(connection: "psycopg.Connection[object]") -> dict[str, list[str]]:
    """Every type that the server has, with expressions for its values."""
    found: dict[str, list[str]] = {}
    large = {type_: [expression] for type_, expression in TOASTED.items()}
    for cases in (EXACT, REFUSED_VALUES, _REFUSED_BY_DEBEZIUM, large):
        for type_, expressions in cases.items():
            found.setdefault(type_, []).extend(expressions)
    return {type_: values for type_, values in found.items() if not _lacks(connection, type_)}


def test_every_value_of_every_type_arrives(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Database(url=server.create_database("source"))
    destination = Database(url=server.create_database("destination"))
    destination.run("CREATE EXTENSION vector", _TYPES)
    with source.connect() as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(_TYPES)
        cases = expressions_of(connection)
    assert "vector" in cases
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
        wait_until_printed_alike(worker, source, destination, tables)


def wait_until_printed_alike(worker: Worker, source: Database, destination: Database, tables: list[str]) -> None:
    """Compared as PostgreSQL prints the values under settings that lose nothing."""
    part = "SELECT '{0}', id, ROW(v, touched)::text, pg_typeof(v)::text FROM {0}"
    query = " UNION ALL ".join(map(part.format, tables))

    def printed(database: Database) -> list[tuple[object, ...]]:
        with database.connect() as connection:
            connection.execute(_SESSION)
            return sorted(connection.execute(query).fetchall())

    expected = printed(source)
    wait_until(worker, lambda: len(printed(destination)) == len(expected))
    wait_until(worker, lambda: printed(destination) == expected)

"""Opens Snowflake destinations for the tests of this folder."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.base import Destination
from tests.support.destinations import SnowflakeKind, make
from tests.support.replica import IDENTITY, copy
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open


@pytest.fixture
def begin(snowflake_database: SnowflakeDatabase) -> Iterator[Open]:
    """Opens destinations of these tables with options of their config; an empty copy of each table is complete."""
    opened: list[Destination] = []

    def opener(*tables: TableSchema, copied: bool = True, **options: Any) -> Destination:
        database = replace(snowflake_database, config={**snowflake_database.config, **options})
        kind = SnowflakeKind(database, preserve_case=options.get("preserve_case", False))
        destination = make(kind, tables)
        opened.append(destination)
        held = destination.open(IDENTITY)
        destination.prepare(tables)
        missing = [schema for schema in tables if schema.id not in held.copied]
        if copied and missing:
            copy(destination, missing)
        return destination

    yield opener
    for destination in opened:
        destination.close()

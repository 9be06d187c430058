"""A session with the source's catalog."""

from collections.abc import Iterator

import psycopg
import pytest

from rosetta_dagster.cdc.source.connections import connect
from tests.support.database import Database


@pytest.fixture
def catalog(source: Database) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with connect(source.connection) as connection:
        yield connection

"""A Snowflake destination as its tests open it, and the rows of the table that most of them write."""

from collections.abc import Callable
from typing import Any, TypeAlias

from rosetta_dagster.cdc.destination.base import Destination
from tests.support.snowflake_database import SnowflakeDatabase

Open: TypeAlias = Callable[..., Destination]


def items(database: SnowflakeDatabase, columns: str = "ID, NAME, SIZE") -> list[tuple[Any, ...]]:
    return sorted(database.rows(f'SELECT {columns} FROM "PUBLIC".ITEMS'), key=repr)

"""A table of Snowflake's types, and its values on either side."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import column
from tests.support.replica import watermark


def apply(destination: Destination, number: int, *changes: Change) -> None:
    destination.apply(compact(changes), watermark(number))


FACTS = TableSchema(
    id=TableId("public", "facts"),
    columns=tuple(
        column(name, type_, oid=oid)
        for name, type_, oid in (
            ("id", "bigint", 20), ("amount", "numeric(12,2)", 1700), ("any", "numeric", 1700), ("paid", "boolean", 16),
            ("ratio", "double precision", 701), ("image", "bytea", 17), ("day", "date", 1082),
            ("at", "timestamp without time zone", 1114),
            ("at_tz", "timestamp with time zone", 1184), ("document", "jsonb", 3802), ("span", "interval", 1186),
            ("clock", "time without time zone", 1083),
        )
    ),
    key=("id",),
    identity=Identity.KEY,
)  # fmt: skip


TEXTS = (
    "-9223372036854775808", "-1234567890.50", "1.000", "t", "-0.5", "\\x00ff", "2024-02-29", "0001-01-01 00:00:00.000001",
    "2024-02-29 12:00:00.5+00", '{"a": [1, null]}', "1 day", "23:59:59.999999",
)  # fmt: skip


HELD = (
    -(2**63), Decimal("-1234567890.50"), "1.000", True, -0.5, b"\x00\xff", date(2024, 2, 29),
    datetime(1, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001 - as the type has it
    datetime(2024, 2, 29, 12, 0, 0, 500000, tzinfo=UTC), '{"a":[1,null]}', "P1D",
    time(23, 59, 59, 999999),
)  # fmt: skip

"""Writes the reference page of types from the destinations' own decisions."""

from typing import Final

from rosetta_dagster.cdc.change.schema import Column
from rosetta_dagster.cdc.destination.snowflake.config import ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.types import Form, target_of
from rosetta_dagster.cdc.reconcile.snowflake.forms import is_hashed

#: Types as SQL spells them, each with its OID; 0 for those of extensions and users, which have another in each database.
_TYPES: Final = (
    ("boolean", 16), ("smallint", 21), ("integer", 23), ("bigint", 20), ("oid", 26), ("numeric(12,2)", 1700),
    ("numeric(5,-2)", 1700), ("numeric(1000,500)", 1700), ("numeric", 1700), ("real", 700), ("double precision", 701),
    ("money", 790), ("text", 25), ("character varying(40)", 1043), ("character(5)", 1042), ("bytea", 17), ("date", 1082),
    ("time", 1083), ("timetz", 1266), ("timestamp", 1114), ("timestamptz", 1184), ("interval", 1186), ("uuid", 2950),
    ("json", 114), ("jsonb", 3802), ("xml", 142), ("inet", 869), ("bit(3)", 1560), ("int4range", 3904), ("point", 600),
    ("an enum", 0), ("a composite", 0), ("hstore", 0), ("vector", 0), ("halfvec", 0), ("geometry", 0), ("geography", 0),
)  # fmt: skip

_ELEMENT: Final = 23

#: What the value of each form is at Snowflake.
_VALUES: Final[dict[Form, str]] = {
    Form.TEXT: "PostgreSQL's text",
    Form.INTEGER: "the number",
    Form.DECIMAL: "the number; NaN and infinity by `values.nan`",
    Form.MONEY: "the number",
    Form.FLOAT: "the number, as double precision",
    Form.BOOLEAN: "the value",
    Form.BINARY: "the bytes",
    Form.DATE: "the date; years outside 1 to 9999 by `values.dates`",
    Form.TIME: "the time; `24:00` is the last microsecond of the day",
    Form.TIMESTAMP: "the time; years outside 1 to 9999 by `values.dates`",
    Form.TIMESTAMP_TZ: "the time in UTC; years outside 1 to 9999 by `values.dates`",
    Form.INTERVAL: "ISO 8601 text",
    Form.JSON: "the document",
    Form.JSON_TEXT: "the document; of a key that repeats within an object the last one",
    Form.ARRAY: "a JSON array, nested for several dimensions",
    Form.HSTORE: "a JSON object",
    Form.VECTOR: "an array of numbers",
}


def types_page(mark: str) -> str:
    """Return the page of the types that each destination gives a column."""
    rows = [_row(name, Column(name="value", type=name, type_oid=oid, base_oid=oid)) for name, oid in _TYPES]
    array = Column(name="value", type="integer[]", type_oid=1007, base_oid=1007, element_oid=_ELEMENT)
    return "\n".join([
        "# Types", "", mark,
        "A PostgreSQL destination gives a column the source's type and creates enums, domains and composites that are",
        "missing. Types of extensions have to exist there. At Snowflake a domain is what its base type is, but over",
        "`numeric` a VARCHAR. A type that is not listed is a VARCHAR too, in PostgreSQL's text.", "",
        "`values.numbers` of the destination's config chooses another type for a `numeric`. The last column says how",
        "[rows are compared](../guides/snowflake.md#compare-rows).", "",
        "| source | PostgreSQL | Snowflake | value at Snowflake | compared |", "|---|---|---|---|---|",
        *rows, _row("an array", array), "",
    ])  # fmt: skip


def _row(name: str, column: Column) -> str:
    target = target_of(column)
    compared = "by hash" if is_hashed(target, ValuePolicy()) else "by fetching"
    shown = name if name.startswith("a") and " " in name else f"`{name}`"
    return f"| {shown} | the same | {target.type} | {_VALUES[target.form]} | {compared} |"

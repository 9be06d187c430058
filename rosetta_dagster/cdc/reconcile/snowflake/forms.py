"""Decides the text of a value that is hashed at the source and at Snowflake, and which values are fetched instead.

A text is the same on both sides where the values are the same, with the destination's policies for values that Snowflake
cannot hold. PostgreSQL and the destination's converters read each text as a value of its
type, since keys are looked up by it.
"""

from typing import Final

from psycopg import sql

from rosetta_dagster.cdc.destination.snowflake.config import Oversized, Substitute, ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.types import Form, Target

_DATE, _TIME = "YYYY-MM-DD", "HH24:MI:SS"

#: For each form the text at PostgreSQL. `concat` writes a value as replication does, where a cast to text may not:
#: that of `character` takes spaces away.
_AT_SOURCE: Final[dict[Form, str]] = {
    Form.TEXT: "CASE WHEN num_nulls({value}) = 0 THEN concat({value}) END",
    Form.INTEGER: "{value}::text",
    Form.DECIMAL: "CASE WHEN {value}::text NOT IN ('NaN', 'Infinity', '-Infinity') THEN round({value}, {scale})::text END",
    Form.MONEY: "round({value}::numeric, 2)::text",
    Form.BOOLEAN: "left({value}::text, 1)",
    Form.BINARY: r"'\x' || encode({value}, 'hex')",
    Form.DATE: f"to_char({{value}}, '{_DATE}')",
    # Snowflake has no 24:00:00.
    Form.TIME: (
        "CASE WHEN {value} IS NOT NULL THEN "
        f"to_char(least({{value}}::time, '23:59:59.999999'::time)::interval, '{_TIME}.US') END"
    ),
    Form.TIMESTAMP: f"to_char({{value}}, '{_DATE} {_TIME}.US')",
    Form.TIMESTAMP_TZ: f"to_char({{value}} AT TIME ZONE 'UTC', '{_DATE} {_TIME}.US') || '+00'",
}

#: For each form the text at Snowflake.
_AT_SNOWFLAKE: Final[dict[Form, str]] = {
    Form.TEXT: "{value}",
    Form.INTEGER: "TO_VARCHAR({value})",
    Form.DECIMAL: "TO_VARCHAR({value})",
    Form.MONEY: "TO_VARCHAR({value})",
    Form.BOOLEAN: "LEFT(TO_VARCHAR({value}), 1)",
    Form.BINARY: r"'\\x' || HEX_ENCODE({value}, 0)",
    Form.DATE: f"TO_VARCHAR({{value}}::DATE, '{_DATE}')",
    Form.TIME: f"TO_VARCHAR({{value}}::TIME(6), '{_TIME}.FF6')",
    Form.TIMESTAMP: f"TO_VARCHAR({{value}}::TIMESTAMP_NTZ(6), '{_DATE} {_TIME}.FF6')",
    Form.TIMESTAMP_TZ: f"TO_VARCHAR(CONVERT_TIMEZONE('UTC', {{value}}), '{_DATE} {_TIME}.FF6') || '+00'",
}

#: For each form of dates its type at PostgreSQL, and the first and last value that Snowflake holds.
_RANGES: Final[dict[Form, tuple[str, str, str]]] = {
    Form.DATE: ("date", "0001-01-01", "9999-12-31"),
    Form.TIMESTAMP: ("timestamp", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    Form.TIMESTAMP_TZ: ("timestamptz", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
}


def is_hashed(target: Target, policy: ValuePolicy) -> bool:
    """Return whether both sides can compute one text of each value. Otherwise values are fetched and compared here.

    They have no common text of a double precision or of a document. A value that is cut is cut by the writer.
    """
    may_be_cut = target.form in (Form.TEXT, Form.BINARY) and policy.oversized is not Oversized.ERROR
    return target.form in _AT_SOURCE and not may_be_cut


def source_text(name: str, target: Target, policy: ValuePolicy) -> sql.Composed:
    """Return the text of a hashed column of the row `t`, or of what the policy writes instead of its value."""
    value: sql.Composable = sql.Identifier("t", name)
    if target.form in _RANGES:
        value = _in_range(value, target.form, policy.dates)
    return sql.SQL(_AT_SOURCE[target.form]).format(value=value, scale=sql.Literal(target.scale))


def _in_range(value: sql.Composable, form: Form, policy: Substitute) -> sql.Composed:
    """Return NULL instead of a value out of Snowflake's range, or the nearest within it."""
    type_, low, high = _RANGES[form]
    within = (
        "CASE WHEN {value} IS NOT NULL THEN least(greatest({value}, {low}::{type}), {high}::{type}) END"
        if policy is Substitute.CLAMP
        else "CASE WHEN {value} BETWEEN {low}::{type} AND {high}::{type} THEN {value} END"
    )
    return sql.SQL("(" + within + ")").format(value=value, low=sql.Literal(low), high=sql.Literal(high), type=sql.SQL(type_))


def snowflake_text(value: str, target: Target) -> str:
    """Return the text of a hashed column, from its expression."""
    return _AT_SNOWFLAKE[target.form].format(value=value)

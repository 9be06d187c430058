"""Converts whole columns of PostgreSQL's text into the columns of a Parquet file, and applies the policies on the way.

What a policy touches is counted by column. An error names the column and never a value.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from rosetta_dagster.cdc.destination.snowflake.config import Oversized, Substitute, ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.texts import iso_interval, json_array, json_object
from rosetta_dagster.cdc.destination.snowflake.types import Form, Target
from rosetta_dagster.cdc.errors import DestinationRejected


class Touched(NamedTuple):
    """A column and the reason why a policy was applied to some of its values."""

    #: `table public.orders, column paid_at`
    place: str
    #: `out of range`, `NaN or infinity`, `too long`
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnConverter:
    """Converts the values of one column."""

    place: str
    target: Target
    policy: ValuePolicy
    is_key: bool
    touched: Counter[Touched] = field(default_factory=Counter, compare=False)

    def convert(self, texts: Any) -> Any:
        """Convert an Arrow array of strings to the column's type. Raise `DestinationRejected` for what it cannot hold."""
        try:
            values = _CONVERSIONS[self.target.form](self, texts)
        except pa.ArrowInvalid:
            self.refuse("22P02", f"A value is not valid for the type {self.target.type}.")
        return self._limited(values)

    def substitute(self, values: Any, odd: Any, wanted: Substitute, clamped: Callable[[Any], Any], reason: str) -> Any:
        """Replace the values where `odd` is true, as the policy says."""
        count = pc.sum(odd).as_py() or 0
        if not count:
            return values
        if wanted is Substitute.ERROR or self.is_key:
            self.refuse("22008", f"A value cannot be held by the type {self.target.type}: {reason}.")
        self.touched[Touched(self.place, reason)] += count
        return pc.if_else(odd, clamped(values) if wanted is Substitute.CLAMP else pa.scalar(None, values.type), values)

    def refuse(self, code: str, problem: str) -> NoReturn:
        """Raise `DestinationRejected` with the SQLSTATE that PostgreSQL uses for the problem."""
        place = self.place[:1].upper() + self.place[1:]
        raise DestinationRejected(
            f"{place}: {problem[:1].lower()}{problem[1:-1]} ({code}).",
            'Correct the rows at the source, or choose another policy in "values" of the destination\'s config.',
        ) from None

    def _limited(self, values: Any) -> Any:
        if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
            return values
        limit = self.policy.value_limit_bytes // (2 if self.target.form is Form.BINARY else 1)
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        return values if longest <= limit else self._cut(values, limit)

    def _cut(self, values: Any, limit: int) -> Any:
        policy = self.policy.oversized
        if policy is Oversized.ERROR or self.is_key:
            self.refuse("22001", f"A value is longer than {limit} bytes.")
        too_long = pc.fill_null(pc.greater(pc.binary_length(values), limit), fill_value=False)
        self.touched[Touched(self.place, "too long")] += pc.sum(too_long).as_py()
        if policy is Oversized.TRUNCATE and not self.target.is_parsed:
            return pa.array([_shortened(value, limit) for value in values.to_pylist()], values.type)
        return pc.if_else(too_long, pa.scalar(None, values.type), values)


def _shortened(value: Any, limit: int) -> Any:
    """Return the value cut to this many bytes, at a character boundary."""
    if isinstance(value, str):
        return value.encode()[:limit].decode(errors="ignore")
    return value if value is None else value[:limit]


def _valid(mask: Any) -> Any:
    """Return the mask with NULL as false."""
    return pc.fill_null(mask, fill_value=False)


def _text(_: ColumnConverter, texts: Any) -> Any:
    return texts


def _integer(_: ColumnConverter, texts: Any) -> Any:
    return pc.cast(texts, pa.int64())


def _decimal(column: ColumnConverter, texts: Any) -> Any:
    odd = _valid(pc.match_substring_regex(texts, r"^(NaN|-?Infinity)$"))
    texts = column.substitute(texts, odd, column.policy.nan, _text_of_nothing, "NaN or infinity")
    return pc.cast(texts, pa.decimal128(column.target.precision, column.target.scale))


def _text_of_nothing(texts: Any) -> Any:
    return pa.nulls(len(texts), texts.type)


def _money(column: ColumnConverter, texts: Any) -> Any:
    return _decimal(column, pc.replace_substring_regex(texts, pattern=r"[^0-9.\-]", replacement=""))


def _float(_: ColumnConverter, texts: Any) -> Any:
    return pc.cast(texts, pa.float64())


def _boolean(column: ColumnConverter, texts: Any) -> Any:
    if not pc.all(pc.is_in(texts, value_set=pa.array(["t", "f", None]))).as_py():
        column.refuse("22P02", "A value is neither true nor false.")
    return pc.equal(texts, "t")


def _binary(column: ColumnConverter, texts: Any) -> Any:
    try:
        values = [None if text is None else bytes.fromhex(text.removeprefix("\\x")) for text in texts.to_pylist()]
    except ValueError:
        column.refuse("22P02", "A value is not bytes in hexadecimal form.")
    return pa.array(values, pa.binary())


#: Dates that Snowflake cannot hold: infinity, and years before 1 or after 9999.
_OUT_OF_RANGE = r"^(-?infinity|\d{5,}-.*|.* BC)$"
_LOW = r"^(-infinity|.* BC)$"


def _in_range(column: ColumnConverter, texts: Any, low: str, high: str) -> Any:
    odd = _valid(pc.match_substring_regex(texts, _OUT_OF_RANGE))
    return column.substitute(
        texts, odd, column.policy.dates, lambda all_: pc.if_else(_valid(pc.match_substring_regex(all_, _LOW)), low, high),
        "out of range",
    )  # fmt: skip


def _date(column: ColumnConverter, texts: Any) -> Any:
    return pc.cast(_in_range(column, texts, "0001-01-01", "9999-12-31"), pa.date32())


def _time(column: ColumnConverter, texts: Any) -> Any:
    odd = _valid(pc.equal(texts, "24:00:00"))
    midnight = pa.scalar("23:59:59.999999")
    wanted = Substitute.ERROR if column.policy.dates is Substitute.ERROR else Substitute.CLAMP
    texts = column.substitute(texts, odd, wanted, lambda _: midnight, "out of range")
    day = pc.binary_join_element_wise(pa.scalar("1970-01-01"), texts, " ")
    return pc.cast(pc.cast(day, pa.timestamp("us")), pa.time64("us"))


def _timestamp(column: ColumnConverter, texts: Any) -> Any:
    return pc.cast(_in_range(column, texts, "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"), pa.timestamp("us"))


def _timestamp_tz(column: ColumnConverter, texts: Any) -> Any:
    texts = _in_range(column, texts, "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00")
    return pc.cast(texts, pa.timestamp("us", "UTC"))


def _each(write: Callable[[str], str], texts: Any) -> Any:
    return pa.array([None if text is None else write(text) for text in texts.to_pylist()], pa.string())


_CONVERSIONS: dict[Form, Callable[[ColumnConverter, Any], Any]] = {
    Form.TEXT: _text,
    Form.INTEGER: _integer,
    Form.DECIMAL: _decimal,
    Form.MONEY: _money,
    Form.FLOAT: _float,
    Form.BOOLEAN: _boolean,
    Form.BINARY: _binary,
    Form.DATE: _date,
    Form.TIME: _time,
    Form.TIMESTAMP: _timestamp,
    Form.TIMESTAMP_TZ: _timestamp_tz,
    Form.INTERVAL: lambda _, texts: _each(iso_interval, texts),
    Form.JSON: _text,
    Form.JSON_TEXT: _text,
    Form.ARRAY: lambda column, texts: _each(lambda text: json_array(text, column.target), texts),
    Form.HSTORE: lambda _, texts: _each(json_object, texts),
    Form.VECTOR: _text,
}

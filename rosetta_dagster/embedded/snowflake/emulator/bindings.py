"""Converts the values bound to a statement from the text forms that the connector sends."""

import decimal
import re
from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta, timezone
from typing import Any

from fakesnow.converter import from_binding

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a time without a zone is one
_UTC = 1440
_INTEGER = re.compile(r"-?\d+")


def single(bindings: Mapping[str, Any]) -> list[Any]:
    """Return the values of the placeholders, in order."""
    return [_value(bindings[str(position)]) for position in range(1, len(bindings) + 1)]


def is_batch(bindings: Mapping[str, Any]) -> bool:
    """Return whether each placeholder has a list of values, one for each row."""
    return any(isinstance(binding["value"], list) for binding in bindings.values())


def batch(bindings: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of values."""
    columns = [bindings[str(position)] for position in range(1, len(bindings) + 1)]
    values = [[_value({**column, "value": value}) for value in column["value"]] for column in columns]
    return [list(row) for row in zip(*values, strict=True)]


def _value(binding: Mapping[str, Any]) -> Any:
    """Convert one value.

    Repaired: fakesnow 0.12.1 treats every FIXED as an integer, expects no NULL in a list, and rounds times as floats.
    """
    value = binding["value"]
    convert = _CONVERTED.get(binding["type"])
    if value is None or convert is None:
        return None if value is None else from_binding(dict(binding))
    return convert(value)


def _fixed(text: str) -> int | decimal.Decimal:
    return int(text) if _INTEGER.fullmatch(text) else decimal.Decimal(text)


def _timestamp(text: str) -> datetime:
    """Convert nanoseconds since 1970. Fractions of a microsecond are cut off."""
    return _EPOCH + timedelta(microseconds=int(text) // 1000)


def _time(text: str) -> time:
    return _timestamp(text).time()


def _timestamp_tz(text: str) -> datetime:
    """Convert nanoseconds since 1970 and, after a space, 1440 plus the offset from UTC in minutes."""
    nanoseconds, _, minutes = text.partition(" ")
    offset = timedelta(minutes=int(minutes or _UTC) - _UTC)
    return (_timestamp(nanoseconds) + offset).replace(tzinfo=timezone(offset))


_CONVERTED: Mapping[str, Callable[[str], Any]] = {
    "FIXED": _fixed,
    "TIME": _time,
    "TIMESTAMP_NTZ": _timestamp,
    "TIMESTAMP_LTZ": _timestamp,
    "TIMESTAMP_TZ": _timestamp_tz,
}

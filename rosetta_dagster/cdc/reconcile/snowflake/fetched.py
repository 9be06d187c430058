"""Writes values that were fetched from either side as texts that are equal for equal values."""

import hashlib
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rosetta_dagster.cdc.destination.snowflake.types import Form, Target

#: Digits of an integer that Snowflake keeps in a document. It rounds longer ones to a double precision.
_EXACT_DIGITS = 38

#: The escape of a NUL, after an even number of backslashes. Snowflake parses no document with it.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def hash_of(hashed: str, values: Sequence[Any], targets: Sequence[Target]) -> str:
    """Return the hash of a row, from that of its hashed columns and the values of the others."""
    if not targets:
        return hashed
    texts = [_text(value, target) for value, target in zip(values, targets, strict=True)]
    return hashlib.sha256(json.dumps([hashed, *texts]).encode()).hexdigest()


def _text(value: Any, target: Target) -> str | None:
    if value is None:
        return None
    if target.is_parsed:
        return _document(value)
    if target.form is Form.FLOAT:
        # Snowflake does not keep the sign of zero everywhere.
        return repr(float(value) + 0.0)
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)


def _document(text: str) -> str | None:
    r"""Return a document in one spelling; None where Snowflake cannot parse it.

    >>> _document('{"b": 1.0, "a": [10e1]}'), _document(r'"\u0000"')
    ('{"a":[100],"b":1}', None)
    """
    if _NUL.search(text):
        return None
    parsed = json.loads(text, parse_int=_number, parse_float=_number)
    return json.dumps(parsed, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> int | float:
    """Return a number as Snowflake keeps it in a document: exactly as an integer, or as a double precision."""
    number = Decimal(text)
    if number.adjusted() < _EXACT_DIGITS and number == number.to_integral_value():
        return int(number)
    return float(number)

"""The values bound to a statement, from the text forms in which the connector sends them."""

import decimal
import re
from collections.abc import Mapping
from typing import Any

from fakesnow.converter import from_binding

_INTEGER = re.compile(r"-?\d+")


def single(bindings: Mapping[str, Any]) -> list[Any]:
    """The values of the placeholders, in their order."""
    return [_value(bindings[str(position)]) for position in range(1, len(bindings) + 1)]


def is_batch(bindings: Mapping[str, Any]) -> bool:
    """Whether each placeholder has a list of values, one for each row."""
    return any(isinstance(binding["value"], list) for binding in bindings.values())


def batch(bindings: Mapping[str, Any]) -> list[list[Any]]:
    """Rows of values."""
    columns = [bindings[str(position)] for position in range(1, len(bindings) + 1)]
    values = [[_value({**column, "value": value}) for value in column["value"]] for column in columns]
    return [list(row) for row in zip(*values, strict=True)]


def _value(binding: Mapping[str, Any]) -> Any:
    """Mended: fakesnow 0.12.1 takes every FIXED for an integer, and does not expect a NULL in a list."""
    value = binding["value"]
    if value is None:
        return None
    if binding["type"] == "FIXED":
        return int(value) if _INTEGER.fullmatch(value) else decimal.Decimal(value)
    return from_binding(dict(binding))

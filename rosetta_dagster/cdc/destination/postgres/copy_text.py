"""Writes rows in COPY's text format.

Format: https://www.postgresql.org/docs/current/sql-copy.html, section "Text Format".
"""

from collections.abc import Iterable, Sequence

from rosetta_dagster.cdc.event import Value

_SPECIAL = (b"\\", b"\n", b"\t", b"\r")
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"))

#: COPY is fed blocks of about this many bytes: a call for each row would cost more than the row.
_BLOCK_SIZE = 256 * 1024


def field(value: Value) -> bytes:
    """One field. A value that was not sent is written as NULL; what it means there is for the statement to say."""
    if not isinstance(value, bytes):
        return b"\\N"
    for special in _SPECIAL:
        if special in value:
            return _escaped(value)
    return value


def _escaped(value: bytes) -> bytes:
    for special, escape in _ESCAPES:
        value = value.replace(special, escape)
    return value


def line(values: Sequence[Value]) -> bytes:
    """One row, with its newline."""
    return b"\t".join([field(value) for value in values]) + b"\n"


def blocks(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The same bytes in larger pieces."""
    pending: list[bytes] = []
    size = 0
    for text in lines:
        pending.append(text)
        size += len(text)
        if size >= _BLOCK_SIZE:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)

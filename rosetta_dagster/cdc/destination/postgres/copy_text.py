"""Writes rows in COPY's text format.

Format: https://www.postgresql.org/docs/current/sql-copy.html, section "Text Format".
"""

from collections.abc import Iterator, Sequence

from rosetta_dagster.cdc.change.event import UNCHANGED, Row, Value

#: These separate fields and rows, and stand for NULL, until the values are escaped. No text of PostgreSQL contains a zero
#: byte, so many rows can be joined first and then escaped at once: a twentieth of the cost of one value at a time.
_FIELD_END, _ROW_END, _NULL = b"\0t", b"\0n", b"\0N"

_ESCAPES = (
    (b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"),
    (_FIELD_END, b"\t"), (_ROW_END, b"\n"),
)  # fmt: skip

#: Rows that are escaped at once, and rows that are written at once.
_PIECE_ROWS = 128
_BLOCK_ROWS = 4096


def lines(rows: Sequence[Row]) -> bytes:
    """Return the rows, each with its newline. UNCHANGED is written as NULL; the statement knows which is which.

    All rows have the same number of values, at least one.
    """
    try:
        return _lines(rows)  # type: ignore[arg-type]  # a value that is no text raises
    except TypeError:
        return _lines([_fields(row) for row in rows])


def _lines(rows: Sequence[Sequence[bytes]]) -> bytes:
    text = b"\n".join(map(b"\t".join, rows))
    # Most pieces contain nothing to escape. Checking for that first saves a third.
    if (
        b"\\" in text
        or b"\r" in text
        or text.count(b"\n") >= len(rows)
        or text.count(b"\t") > len(rows) * (len(rows[0]) - 1)
    ):
        text = _escaped(rows)
    return text.replace(_NULL, b"\\N") + b"\n"


def _escaped(rows: Sequence[Sequence[bytes]]) -> bytes:
    text = _ROW_END.join(map(_FIELD_END.join, rows))
    for special, escape in _ESCAPES:
        text = text.replace(special, escape)
    return text


def _fields(row: Row) -> tuple[bytes, ...]:
    return tuple([_NULL if value is None or value is UNCHANGED else value for value in row])


def blocks(rows: Sequence[Row]) -> Iterator[bytes]:
    """Return the rows in blocks that are large enough for a call each."""
    for start in range(0, len(rows), _BLOCK_ROWS):
        end = min(len(rows), start + _BLOCK_ROWS)
        yield b"".join([lines(rows[at : min(end, at + _PIECE_ROWS)]) for at in range(start, end, _PIECE_ROWS)])


def array(row: Row) -> bytes:
    """Return the row as the literal of an array of texts. UNCHANGED is written as NULL."""
    return b"{%b}" % b",".join(map(_element, row))


def _element(value: Value) -> bytes:
    if value is None or value is UNCHANGED:
        return b"NULL"
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')

r"""Reads COPY's text format into tables of strings, column by column.

A field's tabs and newlines are escaped, so lines and fields split where the bytes say. The escapes that are left are
resolved over whole columns: each is first given another spelling, `\0` and a letter, since PostgreSQL's texts never hold
a NUL; what remains of backslashes is then `\N`, which is NULL.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

#: Text is parsed in pieces of about this many bytes.
PIECE_SIZE = 8 * 1024 * 1024

#: For each escape, the letter of its other spelling and what it stands for.
_ESCAPES = (
    (b"\\\\", b"e", "\\"),
    (b"\\t", b"t", "\t"),
    (b"\\n", b"n", "\n"),
    (b"\\r", b"r", "\r"),
    (b"\\b", b"b", "\b"),
    (b"\\f", b"f", "\f"),
    (b"\\v", b"v", "\v"),
)


def tables(blocks: Iterable[bytes], names: Sequence[str], piece_size: int) -> Iterator[Any]:
    """Yield tables of strings with these columns, one for each piece of text. Blocks may end anywhere."""
    pending: list[bytes] = []
    size = 0
    for block in blocks:
        pending.append(block)
        size += len(block)
        if size >= piece_size:
            whole, newline, rest = b"".join(pending).rpartition(b"\n")
            if newline:
                yield parse(whole + newline, names)
            pending, size = [rest], len(rest)
    text = b"".join(pending)
    if text:
        yield parse(text, names)


def parse(text: bytes, names: Sequence[str]) -> Any:
    """Return a table of complete lines."""
    # If every backslash is followed by N, all are NULLs: an escaped backslash would count twice.
    is_escaped = text.count(b"\\") != text.count(b"\\N")
    if not is_escaped:
        return _split(text, names)
    # The backslash comes first: what follows an escaped one is no escape.
    found = [escape for escape in _ESCAPES if escape[0] in text]
    for escape, letter, _ in found:
        text = text.replace(escape, b"\0" + letter)
    columns = _split(text, names).columns
    return pa.table([_unescaped(column, found) for column in columns], names=list(names))


def _unescaped(column: Any, escapes: Sequence[tuple[bytes, bytes, str]]) -> Any:
    if not pc.any(pc.match_substring(column, "\0")).as_py():
        return column
    for _, letter, character in escapes:
        column = pc.replace_substring(column, pattern="\0" + letter.decode(), replacement=character)
    return column


def _split(text: bytes, names: Sequence[str]) -> Any:
    # Columns are numbered: a name may be repeated, or have a meaning to the parser.
    numbered = [str(number) for number in range(len(names))]
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(column_names=numbered, use_threads=False, block_size=max(len(text), 1)),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t", quote_char=False, escape_char=False, double_quote=False, ignore_empty_lines=False
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=["\\N"], strings_can_be_null=True, column_types=dict.fromkeys(numbered, pa.string())
        ),
    ).rename_columns(list(names))

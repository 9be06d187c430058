import random
from typing import Any

import pytest

from rosetta_dagster.cdc.destination.postgres.copy_text import lines
from rosetta_dagster.cdc.destination.snowflake.copy_text import parse, tables

AWKWARD = [
    "", " ", "\t", "\n", "\r\n", "\\", "\\\\", "\\N", "\\.", "\\t", "\\\\N", "a\tb\nc\\d\re", "NULL", '"', "'", ",", "é😀",
    "\x01\x7f", "\\n\n", "e", "\\e", "0", "\b\f\v",
]  # fmt: skip


def read(text: bytes, width: int) -> list[tuple[Any, ...]]:
    table = parse(text, [f"c{n}" for n in range(width)])
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def encoded(rows: list[tuple[str | None, ...]]) -> bytes:
    return b"".join(lines([tuple(None if text is None else text.encode() for text in row)]) for row in rows)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_rows_are_read_as_they_were_written(width: int) -> None:
    dice = random.Random(width)
    rows = [tuple(dice.choice([*AWKWARD, None]) for _ in range(width)) for _ in range(500)]
    assert rows == read(encoded(rows), width)


def test_nulls_alone_are_read_without_a_search_for_escapes() -> None:
    assert [("1", None), (None, "")] == read(b"1\t\\N\n\\N\t\n", 2)


def test_an_escaped_backslash_before_a_letter_is_no_escape() -> None:
    assert [("\\n", "\\\n")] == read(b"\\\\n\t\\\\\\n\n", 2)


@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_blocks_may_end_anywhere(size: int) -> None:
    rows: list[tuple[str | None, ...]] = [(str(n), AWKWARD[n % len(AWKWARD)], None) for n in range(200)]
    text = encoded(rows)
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    pieces = list(tables(blocks, ["a", "b", "c"], piece_size=100))
    assert rows == [row for piece in pieces for row in zip(*(c.to_pylist() for c in piece.columns), strict=True)]
    assert (len(pieces) > 1) == (size < 10**6)


def test_no_text_is_no_table() -> None:
    assert [] == list(tables([], ["a"], 100))
    assert [] == list(tables([b""], ["a"], 100))


def test_columns_may_be_called_alike_or_oddly() -> None:
    assert ["a", "a", "f0"] == parse(b"1\t2\t3\n", ["a", "a", "f0"]).column_names

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.event import UNCHANGED, Row, Value
from rosetta_dagster.cdc.destination.postgres import copy_text
from rosetta_dagster.cdc.destination.postgres.copy_text import blocks, lines

MEANINGS = {b"\\": b"\\", b"n": b"\n", b"t": b"\t", b"r": b"\r"}

#: No text of PostgreSQL holds a zero byte. What stands beside one until the values are escaped is common here.
TEXTS = st.lists(st.sampled_from([b"t", b"n", b"N", b"\\", b"\t", b"\n", b"\r", b".", "ż".encode()])).map(b"".join) | (
    st.binary().map(lambda value: value.replace(b"\0", b""))
)


def read_field(text: bytes) -> Value:
    """What COPY FROM makes of a field."""
    if text == b"\\N":
        return None
    return re.sub(rb"\\(.)", lambda found: MEANINGS[found[1]], text, flags=re.DOTALL)


def read_lines(text: bytes) -> list[Row]:
    """What COPY FROM makes of lines."""
    assert text.endswith(b"\n")
    return [tuple(read_field(each) for each in line.split(b"\t")) for line in text[:-1].split(b"\n")]


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[st.none() | TEXTS] * width), min_size=1)))
def test_every_row_is_read_back_as_it_was_written(rows: list[Row]) -> None:
    assert rows == read_lines(lines(rows))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (b"a\tb", b"a\\tb"),
        (b"a\nb", b"a\\nb"),
        (b"a\rb", b"a\\rb"),
        (b"a\\b", b"a\\\\b"),
        (b"\\t", b"\\\\t"),
        (b"\\N", b"\\\\N"),
        (b"\\.", b"\\\\."),
        (b"\\xdeadbeef", b"\\\\xdeadbeef"),
        ("żółw".encode(), "żółw".encode()),
        (None, b"\\N"),
        (UNCHANGED, b"\\N"),
    ],
)
def test_a_field_is_written_as_copy_reads_it(value: Value, text: bytes) -> None:
    assert text + b"\n" == lines([(value,)])
    assert text + b"\t" + text + b"\tx\n" == lines([(value, value, b"x")])


def test_null_and_the_empty_string_are_distinguished() -> None:
    assert b"\\N\t\n\t\\N\n" == lines([(None, b""), (b"", None)])


def test_lines_are_handed_on_in_blocks_that_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_text, "_BLOCK_ROWS", 2)
    assert [b"1\n2\n", b"3\n4\n", b"5\n"] == list(blocks([(b"%d" % number,) for number in range(1, 6)]))


def test_no_rows_make_no_block() -> None:
    assert [] == list(blocks([]))

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.destination.postgres.copy_text import blocks, field, line
from rosetta_dagster.cdc.event import UNCHANGED, Value

BLOCK_SIZE = 256 * 1024
MEANINGS = {b"\\": b"\\", b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def read_field(text: bytes) -> Value:
    """What COPY FROM makes of a field."""
    if text == b"\\N":
        return None
    return re.sub(rb"\\(.)", lambda found: MEANINGS[found[1]], text, flags=re.DOTALL)


@given(st.lists(st.none() | st.binary(), min_size=1))
def test_every_row_is_read_back_as_it_was_written(values: list[bytes | None]) -> None:
    text = line(values)
    assert text.endswith(b"\n")
    assert values == [read_field(each) for each in text[:-1].split(b"\t")]


@given(st.binary())
def test_no_field_holds_a_separator(value: bytes) -> None:
    assert not set(field(value)) & set(b"\n\t\r")


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
    assert text == field(value)


def test_null_and_the_empty_string_are_told_apart() -> None:
    assert b"\\N\t\n" == line((None, b""))


def test_a_line_has_one_field_for_each_value() -> None:
    assert b"1\t\\N\ta\\tb\n" == line((b"1", None, b"a\tb"))


def test_lines_are_handed_on_in_blocks_that_hold_the_same_bytes() -> None:
    lines = [b"%d\n" % number for number in range(100_000)]
    found = list(blocks(lines))
    assert b"".join(lines) == b"".join(found)
    assert 3 == len(found)


def test_a_block_ends_with_the_line_that_fills_it() -> None:
    lines = [b"x" * (BLOCK_SIZE - 1), b"y", b"z"]
    assert [b"x" * (BLOCK_SIZE - 1) + b"y", b"z"] == list(blocks(lines))


def test_a_line_longer_than_a_block_is_not_cut() -> None:
    long = b"x" * (3 * BLOCK_SIZE)
    assert [long, b"z"] == list(blocks([long, b"z"]))


def test_no_lines_make_no_block() -> None:
    assert [] == list(blocks([]))


def test_lines_are_read_no_further_than_the_block_that_is_asked_for() -> None:
    source = iter([b"x" * BLOCK_SIZE, b"y" * BLOCK_SIZE])
    next(iter(blocks(source)))
    assert [b"y" * BLOCK_SIZE] == list(source)

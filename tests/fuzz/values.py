"""Strategies for the values of PostgreSQL's types, as the text that a user would write for them."""

import json
import random
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Texts = SearchStrategy[str]

#: What breaks a reader of COPY, of array literals, of JSON, or of Java's strings.
_NASTY = (
    "", " ", "a", "NULL", "null", r"\N", r"\.", "\\", "\t", "\n", "\r\n", "\x01", "'", '"', '\\"', "{}", "{a,b}", "(,)", ",",
    "%s", "$1", "ä", "ß€", "😀", "日本語", "e\u0301", "\u200b", "\ufeff", "[Ljava.lang.String;@22f0b1d4", "\\x00", "x" * 40,
    " trailing ", "__debezium_unavailable_value", "rosetta-unchanged-",
)  # fmt: skip

_ALPHABET = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


def sampled(*texts: str) -> Texts:
    return st.sampled_from(texts)


def text(limit: int = 20) -> Texts:
    """At most so many characters."""
    nasty = st.sampled_from([each for each in _NASTY if len(each) <= limit])
    return nasty | st.text(_ALPHABET, max_size=limit)


def whole(low: int, high: int) -> Texts:
    return st.sampled_from([str(low), str(high), "0", "1", "-1"] if low < 0 else [str(low), str(high), "1"]) | st.integers(
        low, high
    ).map(str)


@st.composite
def decimal(draw: st.DrawFn, digits: int, scale: int) -> str:
    """A number of at most so many digits, of them so many behind the point; trailing zeros are kept."""
    number = draw(st.integers(-(10**digits) + 1, 10**digits - 1))
    sign, figures = "-" if number < 0 else "", str(abs(number)).rjust(scale + 1, "0")
    return f"{sign}{figures[: len(figures) - scale]}.{figures[len(figures) - scale :]}" if scale else f"{sign}{figures}"


def numeric() -> Texts:
    exponents = st.integers(-40, 40)
    return (
        st.integers(0, 12).flatmap(lambda scale: decimal(24, scale))
        | st.tuples(decimal(3, 1), exponents).map(lambda pair: f"{pair[0]}e{pair[1]}")
        | sampled("0", "0.000", "-0.10", "1e-16383", "1e1000", "9" * 300, "1.0", "1.00", "100")
    )


def floating(width: int) -> Texts:
    found = st.floats(width=64) if width == 64 else st.floats(width=32)
    return found.map(repr) | sampled("NaN", "Infinity", "-Infinity", "-0", "0", "0.1", "1e15", "1e6", "16777216")


def money() -> Texts:
    return st.integers(-(10**10), 10**10).map(lambda cents: f"{cents / 100:.2f}") | sampled("92233720368547758.07", "0")


def raw() -> Texts:
    return st.binary(max_size=30).map(lambda data: f"\\x{data.hex()}")


def date() -> Texts:
    return st.dates().map(lambda day: day.isoformat()) | sampled(
        "infinity", "-infinity", "0044-03-15 BC", "4714-11-24 BC", "0001-01-01", "1582-10-10", "5874897-12-31", "2020-02-29"
    )


def plain_date() -> Texts:
    """Of the Gregorian calendar."""
    return st.integers(0, 3_000_000).map(lambda day: f"{1600 + day // 366}-{1 + day % 12:02}-{1 + day % 28:02}")


def timestamp(zone: str = "") -> Texts:
    some = st.datetimes().map(lambda moment: moment.isoformat(" "))
    edges = sampled("0044-03-15 10:00", "4714-11-24 00:00", "0001-12-31 23:59:59.999999").map(lambda t: f"{t}{zone} BC")
    more = sampled("2024-03-31 02:30:00", "10000-01-01 00:00:10.10", "294246-12-31 23:59:59.999999", "1969-12-31 23:59:59.9")
    return (some | more).map(lambda moment: moment + zone) | edges | sampled("infinity", "-infinity")


def plain_timestamp(zone: str = "") -> Texts:
    """Of the Gregorian calendar."""
    return plain_date().map(lambda day: f"{day} 01:02:03.000004{zone}")


def time() -> Texts:
    return st.times().map(lambda moment: moment.isoformat()) | sampled(
        "24:00:00", "00:00:00", "23:59:59.999999", "12:00:10.10"
    )


def timetz() -> Texts:
    zones = sampled("+00", "-12", "+05:30", "+15:59:59", "-00:01")
    return st.tuples(time(), zones).map("".join)


def interval() -> Texts:
    """Never zero."""
    months, days = st.integers(-2000, 2000), st.integers(-1000, 1000)
    micros = st.integers(-(10**12), 10**12).filter(bool)
    return st.tuples(months, days, micros).map(lambda parts: "{} mons {} days {} microseconds".format(*parts)) | sampled(
        "1 mon -1 day", "-1 day 1 hour", "178000000 years", "36 hours", "-0.000001 s", "30 days", "1 mon", "58.97 s"
    )


def uuid() -> Texts:
    return st.uuids().map(str)


def json_text() -> Texts:
    """Also such as only `json` keeps: equal keys, spaces, zeros at the end."""
    leaves = st.none() | st.booleans() | st.integers() | text(8)
    trees = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text(4), inner, max_size=2), max_leaves=4
    )
    return (
        trees.map(json.dumps)
        | trees.map(lambda tree: json.dumps(tree, ensure_ascii=False))
        | sampled(
            '{"a" : 1, "a":2.50}', "null", " [1 ]", "123456789012345678901234567890.000", "1e5", "-0.0", "{}", '"\\u20ac"'
        )
    )


def bits(low: int, high: int) -> Texts:
    return st.text("01", min_size=low, max_size=high)


def composite(*fields: Texts) -> Texts:
    """A row's text; None of a field is its absence."""
    return st.tuples(*(st.none() | each for each in fields)).map(
        lambda row: f"({','.join('' if field is None else _quoted(field) for field in row)})"
    )


def interval_of(bound: SearchStrategy[int], show: Sequence[str] = ("{}", "{}")) -> Texts:
    """A range between two bounds that are shown in this way."""
    ends = st.tuples(bound, bound).map(sorted)
    shape = st.tuples(st.sampled_from("[("), st.sampled_from("])"), st.booleans(), st.booleans())

    def written(parts: tuple[list[int], tuple[str, str, bool, bool]]) -> str:
        (low, high), (opened, closed, has_low, has_high) = parts
        left = show[0].format(low) if has_low else ""
        right = show[1].format(high) if has_high else ""
        return f"{opened}{left},{right}{closed}"

    return sampled("empty") | st.tuples(ends, shape).map(written)


def multirange_of(ranges: Texts) -> Texts:
    return st.lists(ranges, max_size=3).map(lambda found: "{" + ",".join(found) + "}")


def array_of(element: Texts, *, nulls: bool = True, is_plain: bool = False, delimiter: str = ",") -> Texts:
    """An array literal; a plain one has one dimension, begins at 1, and is not of NULLs only."""
    item = (element.map(_quoted) | st.just("NULL")) if nulls else element.map(_quoted)
    flat = st.lists(item, max_size=4)
    plain = flat.filter(lambda found: not found or set(found) != {"NULL"}).map(lambda found: _braced(found, delimiter))
    if is_plain:
        return plain
    pairs = st.lists(st.lists(item, min_size=2, max_size=2), min_size=1, max_size=3)
    nested = pairs.map(lambda rows: _braced([_braced(row, delimiter) for row in rows], delimiter))
    shifted = st.lists(item, min_size=2, max_size=2).map(lambda found: f"[-1:0]={_braced(found, delimiter)}")
    return plain | nested | shifted | flat.map(lambda found: _braced(found, delimiter))


def _braced(items: Sequence[str], delimiter: str) -> str:
    return "{" + delimiter.join(items) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def floats_joined(shape: str, count: int) -> Texts:
    """A geometric value: the shape with so many coordinates put in."""
    coordinates = sampled("0", "-0", "1.5", "1e300", "0.1", "1e-5", "1e15", "-3") | st.integers(-100, 100).map(str)
    return st.tuples(*[coordinates] * count).map(lambda found: shape.format(*found))


def large(hint: int) -> str:
    """More than fits into a row, and not to be compressed into it: the text that belongs to the number, in hex."""
    dice = random.Random(hint)
    return dice.randbytes(dice.randrange(1300, 5000)).hex()

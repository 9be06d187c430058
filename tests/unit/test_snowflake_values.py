from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rosetta_dagster.cdc.change.schema import Column
from rosetta_dagster.cdc.destination.snowflake.config import ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.texts import iso_interval, json_array, json_object
from rosetta_dagster.cdc.destination.snowflake.types import target_of
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter, Touched
from rosetta_dagster.cdc.errors import DestinationRejected

PLACE = "table public.facts, column fact"


def column(type_: str, oid: int, element_oid: int = 0) -> Column:
    return Column(name="fact", type=type_, type_oid=oid, base_oid=oid, element_oid=element_oid)


def converter(type_: str, oid: int, element_oid: int = 0, *, is_key: bool = False, **policy: Any) -> ColumnConverter:
    target = target_of(column(type_, oid, element_oid))
    return ColumnConverter(place=PLACE, target=target, policy=ValuePolicy.model_validate(policy), is_key=is_key)


def converted(texts: list[str | None], *type_: Any, **policy: Any) -> list[Any]:
    return list(converter(*type_, **policy).convert(pa.array(texts, pa.string())).to_pylist())


NUMERIC, DATE, TIME, TIMESTAMP, TIMESTAMPTZ = (
    ("numeric(10,2)", 1700), ("date", 1082), ("time without time zone", 1083), ("timestamp without time zone", 1114),
    ("timestamp with time zone", 1184),
)  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (column("smallint", 21), "NUMBER(5,0)"),
        (column("integer", 23), "NUMBER(10,0)"),
        (column("bigint", 20), "NUMBER(19,0)"),
        (column("oid", 26), "NUMBER(10,0)"),
        (column("numeric(12,2)", 1700), "NUMBER(12,2)"),
        (column("numeric(38,37)", 1700), "NUMBER(38,37)"),
        (column("numeric(39,2)", 1700), "VARCHAR"),
        (column("numeric(38,38)", 1700), "VARCHAR"),
        (column("numeric(3,-2)", 1700), "NUMBER(5,0)"),
        (column("numeric(37,-2)", 1700), "VARCHAR"),
        (column("numeric(2,4)", 1700), "NUMBER(4,4)"),
        (column("numeric", 1700), "VARCHAR"),
        (column("price", 1700), "VARCHAR"),
        (column("real", 700), "FLOAT"),
        (column("double precision", 701), "FLOAT"),
        (column("money", 790), "NUMBER(19,2)"),
        (column("boolean", 16), "BOOLEAN"),
        (column("character varying(40)", 1043), "VARCHAR"),
        (column("character(4)", 1042), "VARCHAR"),
        (column("bytea", 17), "BINARY"),
        (column("date", 1082), "DATE"),
        (column("time without time zone", 1083), "TIME(6)"),
        (column("time with time zone", 1266), "VARCHAR"),
        (column("timestamp without time zone", 1114), "TIMESTAMP_NTZ(6)"),
        (column("timestamp(3) with time zone", 1184), "TIMESTAMP_TZ(6)"),
        (column("interval", 1186), "VARCHAR"),
        (column("uuid", 2950), "VARCHAR"),
        (column("json", 114), "VARIANT"),
        (column("jsonb", 3802), "VARIANT"),
        (column("integer[]", 1007, 23), "VARIANT"),
        (column("mood", 99999), "VARCHAR"),
        (column("int4range", 3904), "VARCHAR"),
        (column("public.hstore", 99998), "VARIANT"),
        (column("inet", 869), "VARCHAR"),
        (column("bit varying", 1562), "VARCHAR"),
        (column("xml", 142), "VARCHAR"),
        (column("point", 600), "VARCHAR"),
        (column("public.vector(3)", 99997), "ARRAY"),
        (column("halfvec(3)", 99996), "ARRAY"),
        (column("sparsevec(3)", 99995), "VARCHAR"),
    ],
    ids=lambda value: value.type if isinstance(value, Column) else "",
)
def test_each_type_has_its_own_at_snowflake(type_: Column, expected: str) -> None:
    assert expected == target_of(type_).type


def test_a_numeric_may_be_given_a_type_by_the_config() -> None:
    numbers = ValuePolicy(numbers={"public.a.b": "number(38, 9)"}).numbers
    assert "NUMBER(38,9)" == target_of(column("numeric", 1700), numbers["public.a.b"]).type
    assert "FLOAT" == target_of(column("numeric", 1700), "FLOAT").type
    assert "VARCHAR" == target_of(column("numeric(4,2)", 1700), "VARCHAR").type


@pytest.mark.parametrize("wrong", ["NUMBER(39,2)", "NUMBER(3,4)", "TEXT", "NUMBER"])
def test_a_type_that_is_no_number_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="NUMBER"):
        ValuePolicy(numbers={"public.a.b": wrong})


@pytest.mark.parametrize(
    ("type_", "texts", "expected"),
    [
        (("bigint", 20), ["-9223372036854775808", None], [-(2**63), None]),
        (("oid", 26), ["4294967295"], [4294967295]),
        (NUMERIC, ["1.50", "-99999999.99", None], [Decimal("1.50"), Decimal("-99999999.99"), None]),
        (("money", 790), ["$1,234.50", "-$0.05"], [Decimal("1234.50"), Decimal("-0.05")]),
        (("double precision", 701), ["1e5", "Infinity", "-Infinity", "-0"], [1e5, float("inf"), float("-inf"), -0.0]),
        (("boolean", 16), ["t", "f", None], [True, False, None]),
        (("bytea", 17), ["\\x00ff", "\\x", None], [b"\x00\xff", b"", None]),
        (DATE, ["0001-01-01", "9999-12-31", None], [date(1, 1, 1), date(9999, 12, 31), None]),
        (TIME, ["01:02:03", "23:59:59.000001", None], [time(1, 2, 3), time(23, 59, 59, 1), None]),
        (TIMESTAMP, ["2024-02-29 23:59:59.123456", "0001-01-01 00:00:00"],
         [datetime(2024, 2, 29, 23, 59, 59, 123456), datetime(1, 1, 1)]),  # noqa: DTZ001 - as the type has it
        (TIMESTAMPTZ, ["2024-02-29 12:00:00+00", "2024-02-29 12:00:00.5+05:30", None],
         [datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2024, 2, 29, 6, 30, 0, 500000, tzinfo=UTC), None]),
        (("interval", 1186), ["1 day 02:00:00", None], ["P1DT2H", None]),
        (("text", 25), ["", "\t\\N", None], ["", "\t\\N", None]),
        (("jsonb", 3802), ['{"a": 1}', "null", None], ['{"a": 1}', "null", None]),
        (("numeric(4,1)[]", 1231, 1700), ["{1.5,NaN,NULL}"], ['[1.5,"NaN",null]']),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_values_are_converted_as_they_are(type_: tuple[Any, ...], texts: list[str | None], expected: list[Any]) -> None:
    assert expected == converted(texts, *type_)


OUT_OF_RANGE: list[str | None] = ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "2024-01-01", None]


def test_dates_beyond_snowflakes_range_become_null_and_are_counted() -> None:
    dates = converter(*DATE)
    values = dates.convert(pa.array(OUT_OF_RANGE, pa.string())).to_pylist()
    assert [None, None, None, None, date(2024, 1, 1), None] == values
    assert Counter({Touched(PLACE, "out of range"): 4}) == dates.touched


def test_dates_beyond_snowflakes_range_may_become_the_nearest() -> None:
    high, low = date(9999, 12, 31), date(1, 1, 1)
    assert [high, low, low, high, date(2024, 1, 1), None] == converted(OUT_OF_RANGE, *DATE, dates="clamp")


@pytest.mark.parametrize("type_", [DATE, TIMESTAMP, TIMESTAMPTZ])
@pytest.mark.parametrize("how", [{"dates": "error"}, {"is_key": True}], ids=["by policy", "in a key"])
def test_dates_beyond_snowflakes_range_may_be_an_error_and_are_one_in_a_key(type_: Any, how: dict[str, Any]) -> None:
    with pytest.raises(DestinationRejected, match=r"Table public\.facts, column fact: .*out of range \(22008\)"):
        converted(["infinity"], *type_, **how)


def test_timestamps_become_the_nearest() -> None:
    texts: list[str | None] = ["infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"]
    last, first = datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(1, 1, 1)  # noqa: DTZ001 - as the type has it
    assert [last, first, last] == converted(texts, *TIMESTAMP, dates="clamp")
    with_zone = [f"{text} BC" if text.endswith("+00") else text for text in ("infinity", "0001-01-01 00:00:00+00")]
    assert [each.replace(tzinfo=UTC) for each in (last, first)] == converted(list(with_zone), *TIMESTAMPTZ, dates="clamp")


def test_midnight_at_the_end_of_a_day_is_the_last_microsecond() -> None:
    times = converter(*TIME)
    assert [time(23, 59, 59, 999999)] == times.convert(pa.array(["24:00:00"])).to_pylist()
    assert Counter({Touched(PLACE, "out of range"): 1}) == times.touched


def test_what_is_not_a_number_becomes_null_and_is_counted() -> None:
    numbers = converter(*NUMERIC)
    assert [None, Decimal("1.00"), None] == numbers.convert(pa.array(["NaN", "1.00", "-Infinity"])).to_pylist()
    assert Counter({Touched(PLACE, "NaN or infinity"): 2}) == numbers.touched
    with pytest.raises(DestinationRejected, match="NaN or infinity"):
        converted(["NaN"], *NUMERIC, nan="error")


def test_a_numeric_without_digits_keeps_every_text() -> None:
    assert ["NaN", "1.000", "9" * 100] == converted(["NaN", "1.000", "9" * 100], "numeric", 1700)


@pytest.mark.parametrize(
    ("type_", "text"),
    [(("integer", 23), "a secret"), (NUMERIC, "1.555"), (NUMERIC, "999999999999"), (DATE, "2024-02-30"), (DATE, "a secret"),
     (("boolean", 16), "yes"), (("bytea", 17), "a secret"), (TIMESTAMP, "a secret"), (TIME, "25:00:00")],
)  # fmt: skip
def test_a_value_that_is_not_valid_is_refused_and_not_quoted(type_: Any, text: str) -> None:
    with pytest.raises(DestinationRejected, match=r"column fact: .*\(22P02\)") as caught:
        converted([text], *type_)
    assert text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_long_values_are_refused_cut_or_left_out() -> None:
    limit = {"value_limit_bytes": 1024}
    long = "é" * 513
    with pytest.raises(DestinationRejected, match=r"longer than 1024 bytes \(22001\)"):
        converted([long], "text", 25, **limit)
    assert [None, "a"] == converted([long, "a"], "text", 25, oversized="null", **limit)
    assert ["é" * 512, "a", None] == converted([long, "a", None], "text", 25, oversized="truncate", **limit)
    assert [b"\x01" * 512] == converted(["\\x" + "01" * 600], "bytea", 17, oversized="truncate", **limit)
    assert [None] == converted([f'"{long}"'], "jsonb", 3802, oversized="truncate", **limit)
    with pytest.raises(DestinationRejected, match="longer"):
        converted([long], "text", 25, is_key=True, oversized="truncate", **limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:00", "PT0S"),
        ("1 year 2 mons 3 days 04:05:06.789", "P1Y2M3DT4H5M6.789S"),
        ("-1 years +2 mons -3 days +04:00:00", "P-1Y2M-3DT4H"),
        ("-00:00:00.000001", "PT-0.000001S"),
        ("3 days", "P3D"),
        ("1 mon", "P1M"),
        ("100000:00:01", "PT100000H1S"),
        ("infinity", "infinity"),
    ],
)
def test_intervals_are_written_as_iso_8601(text: str, expected: str) -> None:
    assert expected == iso_interval(text)


@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("{}", ("text[]", 1009, 25), "[]"),
        ("{{1,2},{3,NULL}}", ("integer[]", 1007, 23), "[[1,2],[3,null]]"),
        ('{a,"b,c","d\\"e\\\\f","NULL",NULL,""," "}', ("text[]", 1009, 25), '["a","b,c","d\\"e\\\\f","NULL",null,""," "]'),
        ("[-1:0]={1,2}", ("integer[]", 1007, 23), "[1,2]"),
        ("{t,f,NULL}", ("boolean[]", 1000, 16), "[true,false,null]"),
        ("{1e+20,NaN,-Infinity,1.5}", ("double precision[]", 1022, 701), '[1e+20,"NaN","-Infinity",1.5]'),
        ('{"{\\"a\\": [1, 2]}",null}', ("jsonb[]", 3807, 3802), '[{"a": [1, 2]},null]'),
        ('{"\\\\x00ff"}', ("bytea[]", 1001, 17), '["00FF"]'),
        ('{"1 day","01:00:00"}', ("interval[]", 1187, 1186), '["P1D","PT1H"]'),
        ("{(1,1),(0,0);(3,3),(2,2)}", ("box[]", 1020, 603), '["(1,1),(0,0)","(3,3),(2,2)"]'),
        ('{"$1,000.50"}', ("money[]", 791, 790), "[1000.50]"),
        ("{1.10}", ("numeric[]", 1231, 1700), '["1.10"]'),
    ],
)
def test_arrays_are_written_as_json(text: str, type_: Any, expected: str) -> None:
    assert expected == json_array(text, target_of(column(*type_)))


def test_hstore_is_written_as_an_object() -> None:
    assert '{"a\\"b": "1, 2=>3", "c": null, "d": "NULL"}' == json_object('"a\\"b"=>"1, 2=>3", "c"=>NULL, "d"=>"NULL"')

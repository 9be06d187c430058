"""Builds the statements of a comparison with Snowflake, of both sides, as pure functions.

The hash of a row is the MD5 of the MD5s of its hashed columns' texts, one after the other; `-` stands for NULL. The number
of a text is the lower 60 bits of its MD5: a sum of many is exact at both sides.
"""

from collections.abc import Iterable, Sequence

from psycopg import sql

from rosetta_dagster.cdc.destination.snowflake.names import quoted
from rosetta_dagster.cdc.reconcile.snowflake.columns import ComparedColumns
from rosetta_dagster.cdc.reconcile.snowflake.forms import snowflake_text, source_text
from rosetta_dagster.cdc.reconcile.sql import Key, joined

_COMMA = sql.SQL(", ")

#: PostgreSQL's MD5 of a text is that of its bytes, which are in the database's encoding.
_SOURCE_PART = "coalesce(md5(convert_to({}, 'UTF8')), '-')"
_SOURCE_NUMBER = "('x' || right(md5({}), 15))::bit(60)::bigint"

#: 2 ** 60: what is left by it are the lower 60 bits.
_SNOWFLAKE_NUMBER = "MOD(MD5_NUMBER_LOWER64({}), 1152921504606846976)::NUMBER(19,0)"


def source_buckets(rows: sql.Composed, columns: ComparedColumns, bucket_count: int) -> sql.Composed:
    """Select each bucket's number, its number of rows, and the sum of their numbers."""
    return sql.SQL("SELECT {}, count(*), sum(" + _SOURCE_NUMBER + ")::text\nFROM {} AS t GROUP BY 1").format(
        _source_bucket(columns, bucket_count), _source_row(columns, columns.hashed), rows
    )


def source_bucket_rows(
    rows: sql.Composed, columns: ComparedColumns, bucket_count: int, buckets: Sequence[int]
) -> sql.Composed:
    """Select the key, the hash and the fetched values of each row in these buckets."""
    return sql.SQL("SELECT {}\nFROM {} AS t WHERE {} = ANY ({}::bigint[])").format(
        _source_values(columns), rows, _source_bucket(columns, bucket_count), sql.Literal(list(buckets))
    )


def source_rows_of(rows: sql.Composed, columns: ComparedColumns, keys: Iterable[Key]) -> sql.Composed:
    """Select the key, the hash and the fetched values of each row with one of these keys."""
    return sql.SQL("SELECT {}\nFROM {}").format(_source_values(columns), joined(rows, columns.schema, keys))


def _source_values(columns: ComparedColumns) -> sql.Composed:
    names = columns.schema.column_names
    fetched = _COMMA.join(sql.SQL("{}::text").format(sql.Identifier("t", names[index])) for index in columns.fetched)
    keys = _COMMA.join(_source_text(columns, index) for index in columns.layout.key)
    return sql.SQL("ARRAY[{}], md5({}), ARRAY[{}]::text[]").format(keys, _source_row(columns, columns.hashed), fetched)


def _source_bucket(columns: ComparedColumns, bucket_count: int) -> sql.Composed:
    return sql.SQL("mod(" + _SOURCE_NUMBER + ", {})").format(
        _source_row(columns, columns.layout.key), sql.Literal(bucket_count)
    )


def _source_row(columns: ComparedColumns, indexes: Iterable[int]) -> sql.Composed:
    return sql.SQL(" || ").join(sql.SQL(_SOURCE_PART).format(_source_text(columns, index)) for index in indexes)


def _source_text(columns: ComparedColumns, index: int) -> sql.Composed:
    return source_text(columns.schema.column_names[index], columns.layout.types[index], columns.policy)


def snowflake_buckets(columns: ComparedColumns, bucket_count: int) -> str:
    """Select each bucket's number, its number of rows, and the sum of their numbers."""
    number = _SNOWFLAKE_NUMBER.format(_snowflake_row(columns, columns.hashed))
    return (
        f"SELECT {_snowflake_bucket(columns, bucket_count)} AS BUCKET, COUNT(*) AS ROW_COUNT, "
        f"TO_VARCHAR(SUM({number})) AS TOTAL\nFROM {_live_rows(columns)} GROUP BY 1"
    )


def snowflake_bucket_rows(columns: ComparedColumns, bucket_count: int, buckets: Sequence[int]) -> str:
    """Select the key, the hash and the fetched values of each row in these buckets."""
    wanted = ", ".join(map(str, buckets))
    return (
        f"SELECT {_snowflake_values(columns)}\nFROM {_live_rows(columns)}\n"
        f"{_and(columns)} {_snowflake_bucket(columns, bucket_count)} IN ({wanted})"
    )


def snowflake_rows_of(columns: ComparedColumns, key_count: int) -> str:
    """Select the key, the hash and the fetched values of each row with one of so many keys, given as parameters."""
    own = ", ".join(_snowflake_text(columns, index) for index in columns.layout.key)
    one = ", ".join("?" for _ in columns.layout.key)
    is_single = len(columns.layout.key) == 1
    wanted = ", ".join([one if is_single else f"({one})"] * key_count)
    condition = f"{own} IN ({wanted})" if is_single else f"({own}) IN ({wanted})"
    return f"SELECT {_snowflake_values(columns)}\nFROM {_live_rows(columns)}\n{_and(columns)} {condition}"


def _live_rows(columns: ComparedColumns) -> str:
    """Return the table's rows for a FROM clause, without those that are marked as deleted."""
    mark = columns.layout.deleted_at
    condition = "" if mark is None else f" WHERE T.{quoted(mark)} IS NULL"
    return f"{quoted(*columns.layout.id)} AS T{condition}"


def _and(columns: ComparedColumns) -> str:
    return "WHERE" if columns.layout.deleted_at is None else "AND"


def _snowflake_values(columns: ComparedColumns) -> str:
    keys = [f"{_snowflake_text(columns, index)} AS K{number}" for number, index in enumerate(columns.layout.key)]
    fetched = [
        f"{columns.layout.types[index].comparable(_own(columns, index))} AS F{number}"
        for number, index in enumerate(columns.fetched)
    ]
    return ", ".join([*keys, f"MD5({_snowflake_row(columns, columns.hashed)}) AS HASH", *fetched])


def _snowflake_bucket(columns: ComparedColumns, bucket_count: int) -> str:
    return f"MOD({_SNOWFLAKE_NUMBER.format(_snowflake_row(columns, columns.layout.key))}, {bucket_count})"


def _snowflake_row(columns: ComparedColumns, indexes: Iterable[int]) -> str:
    return " || ".join(f"COALESCE(MD5({_snowflake_text(columns, index)}), '-')" for index in indexes)


def _snowflake_text(columns: ComparedColumns, index: int) -> str:
    return snowflake_text(_own(columns, index), columns.layout.types[index])


def _own(columns: ComparedColumns, index: int) -> str:
    return f"T.{quoted(columns.layout.columns[index])}"

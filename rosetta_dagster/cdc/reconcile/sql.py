"""Builds the statements of a reconciliation, as pure functions. Those that read name the rows of a side by `own_rows`.

A row has two hashes: the hash of its key decides its bucket, and the hash of all its columns identifies its version. Both
are hashes of text forms, so they are the same on servers of any version and architecture.

Values are literals and not parameters, since the name of a column may contain a parameter's placeholder.
"""

from collections.abc import Iterable, Sequence

from psycopg import sql

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.table_id import TableId

#: The values of a row's key, in the key's order, in their text form.
Key = tuple[str, ...]

_COMMA = sql.SQL(", ")

#: 60 bits of a text's md5, as a number. The sum of many does not overflow.
_NUMBER = "('x' || substr(md5({}), 1, 15))::bit(60)::bigint"


def own_rows(table: TableId, *, is_partitioned: bool, row_filter: str | None = None) -> sql.Composed:
    """Return the table for a FROM clause: its own rows, with those of partitions, without those of inheritance children.

    `row_filter`: only the rows with this condition.
    """
    rows = sql.SQL("{}" if is_partitioned else "ONLY {}").format(sql.Identifier(*table))
    if row_filter is None:
        return rows
    return sql.SQL("(SELECT * FROM {} WHERE ({}))").format(rows, sql.SQL(row_filter))


def _columns(names: tuple[str, ...]) -> sql.Composed:
    return _COMMA.join(sql.Identifier("t", name) for name in names)


def _text(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(_columns(names))


def _bucket(schema: TableSchema, bucket_count: int) -> sql.Composed:
    return sql.SQL("mod(" + _NUMBER + ", {})").format(_text(schema.key), sql.Literal(bucket_count))


def _key(schema: TableSchema) -> sql.Composed:
    return sql.SQL("ARRAY[{}]").format(_COMMA.join(sql.SQL("{}::text").format(sql.Identifier("t", n)) for n in schema.key))


def bucket_hashes(rows: sql.Composed, schema: TableSchema, bucket_count: int) -> sql.Composed:
    """Select each bucket's number, its number of rows, and the sum of their hashes."""
    return sql.SQL("SELECT {}, count(*), sum(" + _NUMBER + ")::text\nFROM {} AS t GROUP BY 1").format(
        _bucket(schema, bucket_count), _text(schema.column_names), rows
    )


def bucket_rows(rows: sql.Composed, schema: TableSchema, bucket_count: int, buckets: Sequence[int]) -> sql.Composed:
    """Select the key and the hash of each row in these buckets."""
    return sql.SQL("SELECT {}, md5({})\nFROM {} AS t WHERE {} = ANY ({}::bigint[])").format(
        _key(schema),
        _text(schema.column_names),
        rows,
        _bucket(schema, bucket_count),
        sql.Literal(list(buckets)),
    )


def rows_of_keys(rows: sql.Composed, schema: TableSchema, keys: Iterable[Key], *, lock: bool = False) -> sql.Composed:
    """Select the key and the hash of each row with these keys."""
    end = sql.SQL("\nFOR UPDATE OF t" if lock else "")
    return sql.SQL("SELECT {}, md5({})\nFROM {}{}").format(
        _key(schema), _text(schema.column_names), joined(rows, schema, keys), end
    )


def keys_after(rows: sql.Composed, schema: TableSchema, last: Key | None, count: int) -> sql.Composed:
    """Select the keys that follow this one, in their order, at most so many; the first ones without it."""
    types = {column.name: column.type for column in schema.columns}
    columns = _columns(schema.key)
    where: sql.Composable = sql.SQL("")
    if last is not None:
        values = _COMMA.join(
            sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(types[name]))
            for name, value in zip(schema.key, last, strict=True)
        )
        where = sql.SQL("\nWHERE ({}) > ({})").format(columns, values)
    return sql.SQL("SELECT {}\nFROM {} AS t{}\nORDER BY {} LIMIT {}").format(
        _key(schema), rows, where, columns, sql.Literal(count)
    )


def copy_keys(rows: sql.Composed, schema: TableSchema, keys: Iterable[Key]) -> sql.Composed:
    """Copy the rows with these keys out in COPY's text format."""
    return sql.SQL("COPY (SELECT {}\nFROM {}) TO STDOUT").format(_columns(schema.column_names), joined(rows, schema, keys))


def delete_keys(rows: sql.Composed, schema: TableSchema, keys: Iterable[Key]) -> sql.Composed:
    return sql.SQL("DELETE FROM {} AS t USING {} WHERE {}").format(rows, _wanted(schema, keys), _same_key(schema))


def create_staging(rows: sql.Composed, schema: TableSchema) -> sql.Composed:
    """Create an empty table of the same columns, which is dropped at the end of the transaction."""
    return sql.SQL("CREATE TEMPORARY TABLE rosetta_repair ON COMMIT DROP AS SELECT {} FROM {} AS t WITH NO DATA").format(
        _columns(schema.column_names), rows
    )


def copy_into_staging() -> sql.SQL:
    return sql.SQL("COPY pg_temp.rosetta_repair FROM STDIN")


def insert_staged(table: TableId, schema: TableSchema) -> sql.Composed:
    """Insert the staged rows that are missing."""
    names = _COMMA.join(map(sql.Identifier, schema.column_names))
    return sql.SQL(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM pg_temp.rosetta_repair ON CONFLICT DO NOTHING"
    ).format(sql.Identifier(*table), names=names)


def joined(rows: sql.Composed, schema: TableSchema, keys: Iterable[Key]) -> sql.Composed:
    """Return the rows `t` with these keys, for a FROM clause."""
    return sql.SQL("{} AS t JOIN {} ON {}").format(rows, _wanted(schema, keys), _same_key(schema))


def _wanted(schema: TableSchema, keys: Iterable[Key]) -> sql.Composed:
    """Return the keys as a table, from one array for each column of the key."""
    rows = list(keys)
    lists = _COMMA.join(
        sql.SQL("{}::text[]").format(sql.Literal([key[index] for key in rows])) for index in range(len(schema.key))
    )
    names = _COMMA.join(sql.Identifier(f"k{index}") for index in range(len(schema.key)))
    return sql.SQL("unnest({}) AS wanted ({})").format(lists, names)


def _same_key(schema: TableSchema) -> sql.Composed:
    types = {column.name: column.type for column in schema.columns}
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = wanted.{}::{}").format(sql.Identifier(name), sql.Identifier(f"k{index}"), sql.SQL(types[name]))
        for index, name in enumerate(schema.key)
    )

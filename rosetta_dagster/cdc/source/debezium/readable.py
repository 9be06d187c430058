"""Decides which tables Debezium can read without loss, before it is started."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import psycopg

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.values import converter_for

_REMEDY: Final = "Set pipelines.engine to PGOUTPUT, or leave the table out."

#: Debezium keeps a quote between other characters, but not one at an end or beside a space.
_INNER_QUOTES: Final = re.compile(r'[^"\s]+("[^"\s]+)+')

#: Debezium reads all types of the database when it starts, and fails on a domain over an enum.
_ENUM_DOMAINS = """
SELECT domain.oid::regtype::text FROM pg_type AS domain JOIN pg_type AS base ON base.oid = domain.typbasetype
WHERE domain.typtype = 'd' AND base.typtype = 'e' ORDER BY 1
"""

#: These queries avoid `to_regclass`, which fails where the role may not use the namespace: that is a finding of its own.
_HAS_PRIMARY_KEY = """
SELECT FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indrelid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = %s AND class.relname = %s AND index.indisprimary
"""

#: The unique indexes of a table in the order of Debezium's driver: for each column the text that the driver has for it, and
#: whether it is an expression.
_UNIQUE_INDEXES = """
SELECT ARRAY(SELECT trim(BOTH '"' FROM pg_get_indexdef(index.indexrelid, number, false))
             FROM generate_series(1, index.indnatts) AS number),
       ARRAY(SELECT attnum = 0 FROM unnest(index.indkey::int2[]) AS attnum)
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
JOIN pg_am AS method ON method.oid = class.relam
JOIN pg_class AS indexed ON indexed.oid = index.indrelid
JOIN pg_namespace AS namespace ON namespace.oid = indexed.relnamespace
WHERE namespace.nspname = %s AND indexed.relname = %s AND index.indisunique
ORDER BY NOT index.indisclustered, method.amname <> 'hash', class.relname COLLATE "C"
"""

#: What Debezium's own patterns match (`PostgresConnection.isTableUniqueIndexIncluded`), without their backtracking. It skips
#: an index with such an expression, and treats any other expression as the name of a column.
_SKIPPED_EXPRESSIONS: Final = (
    re.compile(r"\(?[A-Za-z0-9_.]+\(.*\)"),
    re.compile(r"\(.+[+ */<>=~!@#%^&|`?].+\)"),
)


def unreadable_database(connection: "psycopg.Connection[Any]") -> Iterator[ChangeUndecodable]:
    """Yield what of the database keeps Debezium from starting."""
    domains = [name for (name,) in connection.execute(_ENUM_DOMAINS)]
    if domains:
        yield ChangeUndecodable(
            f"Debezium does not start on a database that has a domain over an enum: {', '.join(domains)}.",
            "Set pipelines.engine to PGOUTPUT, or drop the domain.",
        )


def unreadable_table(
    connection: "psycopg.Connection[Any]", schema: TableSchema, selected: Collection[str]
) -> Iterator[ChangeUndecodable]:
    """Yield an error for everything in the table that Debezium cannot read. It reads values of selected columns only."""
    yield from _unreadable_names(schema)
    if connection.execute(_HAS_PRIMARY_KEY, schema.id).fetchone() is None:
        yield from _unreadable_key(connection, schema)
    yield from _names_that_differ_by_case(schema)
    yield from _unreadable_columns(schema, selected)


def _unreadable_names(schema: TableSchema) -> Iterator[ChangeUndecodable]:
    names = [name for name in (*schema.id, *schema.column_names) if '"' in name and not _INNER_QUOTES.fullmatch(name)]
    if names:
        # Debezium removes the quotes, and then skips the table's changes silently.
        yield ChangeUndecodable(f"Table {schema.id}: Debezium cannot read the double quotes in {', '.join(names)}.", _REMEDY)


def _unreadable_key(connection: "psycopg.Connection[Any]", schema: TableSchema) -> Iterator[ChangeUndecodable]:
    """Yield errors about the unique index that Debezium uses for a table without a primary key."""
    names = [name for name in schema.key if '"' in name]
    if names:
        message = f"Table {schema.id}: Debezium cannot read the double quotes in a unique index's column {', '.join(names)}."
        yield ChangeUndecodable(message, _REMEDY)
    indexes = [list(zip(*row, strict=True)) for row in connection.execute(_UNIQUE_INDEXES, schema.id)]
    expressions = [text for text, is_expression in used_index(indexes) if is_expression]
    if expressions:
        yield ChangeUndecodable(
            f"Table {schema.id} has no primary key, and Debezium cannot read the expression {', '.join(expressions)} of its "
            "unique index.",
            f"Add a primary key, or: {_REMEDY}",
        )


def used_index(indexes: Sequence[Sequence[tuple[str, bool]]]) -> Sequence[tuple[str, bool]]:
    """Return the first index that Debezium does not skip: for each column its text, and whether it is an expression."""
    for columns in indexes:
        if not any(pattern.fullmatch(text) for text, _ in columns for pattern in _SKIPPED_EXPRESSIONS):
            return columns
    return ()


def _names_that_differ_by_case(schema: TableSchema) -> Iterator[ChangeUndecodable]:
    counts = Counter(name.lower() for name in schema.column_names)
    names = [name for name in schema.column_names if counts[name.lower()] > 1]
    if names:
        message = (
            f"Table {schema.id}: Debezium cannot distinguish the columns {', '.join(names)}, as only their case differs."
        )
        yield ChangeUndecodable(message, _REMEDY)


def _unreadable_columns(schema: TableSchema, selected: Collection[str]) -> Iterator[ChangeUndecodable]:
    for column in [each for each in schema.columns if each.name in selected]:
        try:
            converter_for(column, placeholder="")
        except ChangeUndecodable as error:
            yield ChangeUndecodable(f"Table {schema.id}: {error.message}", error.remedy)

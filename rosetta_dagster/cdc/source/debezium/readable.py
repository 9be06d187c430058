"""Decides which tables Debezium can read without loss, before it is started on them."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.values import converter_for

_REMEDY = "Set pipelines.engine to PGOUTPUT, or leave the table out."

#: A quote between other characters is kept; one at an end, or beside a space, is not.
_INNER_QUOTES = re.compile(r'[^"\s]+("[^"\s]+)+')

#: Debezium reads all types of the database when it starts, and fails at these.
_ENUM_DOMAINS = """
SELECT domain.oid::regtype::text FROM pg_type AS domain JOIN pg_type AS base ON base.oid = domain.typbasetype
WHERE domain.typtype = 'd' AND base.typtype = 'e' ORDER BY 1
"""


_HAS_PRIMARY_KEY = """
SELECT FROM pg_index WHERE indrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND indisprimary
"""


def unreadable_database(connection: "psycopg.Connection[Any]") -> Iterator[ChangeUndecodable]:
    """Yield what of the database keeps Debezium from starting."""
    domains = [name for (name,) in connection.execute(_ENUM_DOMAINS)]
    if domains:
        yield ChangeUndecodable(
            f"Debezium does not start on a database that has a domain over an enum: {', '.join(domains)}.",
            "Set pipelines.engine to PGOUTPUT, or drop the domain.",
        )


def unreadable_table(connection: "psycopg.Connection[Any]", schema: TableSchema) -> Iterator[ChangeUndecodable]:
    """Yield what of the table Debezium cannot read."""
    yield from _unreadable_names(schema)
    yield from _unreadable_key(connection, schema)
    yield from _names_alike(schema)
    yield from _unreadable_columns(schema)


def _unreadable_names(schema: TableSchema) -> Iterator[ChangeUndecodable]:
    names = [name for name in (*schema.id, *schema.column_names) if '"' in name and not _INNER_QUOTES.fullmatch(name)]
    if names:
        # It takes the quotes for its own, and then leaves the table's changes out without a word.
        yield ChangeUndecodable(f"Table {schema.id}: Debezium cannot read the double quotes in {', '.join(names)}.", _REMEDY)


def _unreadable_key(connection: "psycopg.Connection[Any]", schema: TableSchema) -> Iterator[ChangeUndecodable]:
    names = [name for name in schema.key if '"' in name]
    if names and connection.execute(_HAS_PRIMARY_KEY, schema.id).fetchone() is None:
        message = f"Table {schema.id}: Debezium cannot read the double quotes in a unique index's column {', '.join(names)}."
        yield ChangeUndecodable(message, _REMEDY)


def _names_alike(schema: TableSchema) -> Iterator[ChangeUndecodable]:
    counts = Counter(name.lower() for name in schema.column_names)
    names = [name for name in schema.column_names if counts[name.lower()] > 1]
    if names:
        message = (
            f"Table {schema.id}: Debezium cannot tell the columns {', '.join(names)} apart, as only their case differs."
        )
        yield ChangeUndecodable(message, _REMEDY)


def _unreadable_columns(schema: TableSchema) -> Iterator[ChangeUndecodable]:
    for column in schema.columns:
        try:
            converter_for(column, placeholder="")
        except ChangeUndecodable as error:
            yield ChangeUndecodable(f"Table {schema.id}: {error.message}", error.remedy)

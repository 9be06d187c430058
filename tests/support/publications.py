"""What a publication at the source is missing."""

import psycopg

from rosetta_dagster.cdc.source.publications import read_publication
from rosetta_dagster.cdc.table_id import TableId


def missing_tables(
    connection: "psycopg.Connection[tuple[object, ...]]", name: str, tables: list[TableId]
) -> list[TableId] | None:
    publication = read_publication(connection, name)
    return None if publication is None else publication.missing_tables(tables)

"""Decides whether rows and columns of a table can be selected, without that a statement at the source ever fails for it."""

from collections.abc import Iterator, Mapping

import psycopg

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.config.wording import nearest
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem, quoted, warning
from rosetta_dagster.cdc.source.publications import (
    Publication,
    may_use_inserts_publication,
    publications_of,
    unidentified_tables,
)
from rosetta_dagster.cdc.source.selections import SELECTIONS_VERSION, Refusal, is_selected, try_selection
from rosetta_dagster.cdc.table_id import TableId


def about_selections(
    connection: "psycopg.Connection[tuple[object, ...]]",
    config: PipelineConfig,
    schemas: Mapping[TableId, TableSchema],
    publication: Publication | None,
) -> Iterator[Finding]:
    """Yield what keeps selected tables from being published as they are selected, and what a person should know of them.

    `schemas` have every column that is logged.
    """
    if not may_use_inserts_publication(config, publication):
        yield from _about_foreign(connection, config, publication)
        return
    wanted = {table: selection for table, selection in config.selections.items() if table in schemas}
    unidentified = unidentified_tables(connection, list(wanted))
    for table, selection in wanted.items():
        if connection.info.server_version < SELECTIONS_VERSION:
            yield _about_version(table)
        elif missing := selection.missing_columns(schemas[table].column_names):
            yield _about_missing(schemas[table], missing)
        elif is_selected(connection, publications_of(config), schemas[table], selection):
            yield _about_alterations(schemas[table], selection)
        else:
            yield from _about_selection(connection, schemas[table], selection, is_identified=table not in unidentified)


def _about_selection(
    connection: "psycopg.Connection[tuple[object, ...]]", table: TableSchema, selection: Selection, *, is_identified: bool
) -> Iterator[Finding]:
    try:
        refusal = try_selection(connection, table, selection)
    except psycopg.errors.InsufficientPrivilege:
        # The role cannot publish the table at all, which is a finding of its own.
        return
    if refusal is not None and refusal.condition_error is not None:
        yield problem(
            Check.SELECTION,
            f"PostgreSQL does not accept the condition in where of table {table.id}: {refusal.condition_error}.",
            "Correct it: an expression over columns of the table, with built-in immutable functions only.",
            table.id,
        )
        return
    if refusal is not None and is_identified:
        yield _about_refusal(refusal, table)
        return
    yield _about_alterations(table, selection)


def _about_version(table: TableId) -> Finding:
    return problem(
        Check.SELECTION,
        f"Rows and columns of table {table} cannot be selected: publications have row filters and column lists from "
        "PostgreSQL 15 on.",
        "Upgrade the source, or remove columns, exclude and where of the table.",
        table,
    )


def _about_missing(table: TableSchema, missing: list[str]) -> Finding:
    near = [f"; did you mean {found}" for name in missing if (found := nearest(name, table.column_names))]
    # A column that was renamed would be published under its new name.
    return problem(
        Check.SELECTION,
        f"Table {table.id} has no column {', '.join(missing)}, which columns or exclude names{near[0] if near else ''}.",
        "Correct columns or exclude of the table; names are case-sensitive.",
        table.id,
    )


def _about_refusal(refusal: Refusal, table: TableSchema) -> Finding:
    name = quoted(*table.id)
    fails = f"PostgreSQL would refuse updates and deletes of table {table.id}"
    index = (
        f"Create a unique index on columns that are NOT NULL and replicated, and run ALTER TABLE {name} REPLICA IDENTITY "
        "USING INDEX … at the source: updates and deletes then log its columns of the old row."
    )
    if refusal.is_full:
        key = (
            f"Run ALTER TABLE {name} REPLICA IDENTITY DEFAULT at the source: old rows are logged by their primary key only."
        )
        message = f"{fails}: only some of its columns are selected, and its replica identity is the whole row."
        return problem(Check.SELECTION, message, index if refusal.unlogged or not table.key else key, table.id)
    if refusal.unlisted:
        columns = ", ".join(refusal.unlisted)
        message = f"{fails}: {columns} of its replica identity is not selected."
        return problem(Check.SELECTION, message, f"Select {columns}, too. Or: {index}", table.id)
    message = f"{fails}: where uses {', '.join(refusal.unlogged)}, which the replica identity does not have."
    full = (
        f"Run ALTER TABLE {name} REPLICA IDENTITY FULL at the source: every update and delete then logs the whole old row, "
        "so that the log grows."
    )
    return problem(Check.SELECTION, message, index if refusal.has_list else full, table.id)


def _about_alterations(table: TableSchema, selection: Selection) -> Finding:
    which = "the columns that are replicated" if selection.has_column_rule else "the columns of its row filter"
    return warning(
        Check.SELECTION,
        f"While table {table.id} is published like this, PostgreSQL refuses to drop {which} and to change their types.",
        "Use ALTER TABLE … DROP COLUMN … CASCADE; take the table out of the publication before ALTER COLUMN … TYPE. Rosetta "
        "puts it back within ten seconds, and copies the table again.",
        table.id,
    )


def _about_foreign(
    connection: "psycopg.Connection[tuple[object, ...]]", config: PipelineConfig, publication: Publication | None
) -> Iterator[Finding]:
    """Yield what concerns a publication that Rosetta does not own: it is taken as it is."""
    name = config.publication_name
    for table in sorted(config.selections):
        yield problem(
            Check.SELECTION,
            f"Rows and columns of table {table} cannot be selected: publication {name} is not Rosetta's own.",
            f"Give the table its row filter and list of columns in that publication (ALTER PUBLICATION {quoted(name)} …), "
            "which Rosetta follows, and remove columns, exclude and where of the table. Or remove publication_name.",
            table,
        )
    cut = publication.cut_tables if publication is not None else frozenset()
    tables = sorted(cut & {table.id for table in config.tables} - config.selections.keys())
    for table, schema in read_schemas(connection, tables, [name]).items():
        rows = f"rows {schema.row_filter}" if schema.row_filter else "all rows"
        yield warning(
            Check.SELECTION,
            f"Publication {name} has a part of table {table}, and only that is replicated: the columns "
            f"{', '.join(schema.column_names)}, and {rows}.",
            "Nothing has to be done if that is wanted.",
            table,
        )

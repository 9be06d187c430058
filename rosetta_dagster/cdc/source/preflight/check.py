"""Decides what is wrong with the source of a pipeline: with the row, the server, each table and the publication."""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.errors import PreflightFailed
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.debezium.properties import unsupported_settings
from rosetta_dagster.cdc.source.debezium.readable import unreadable_database, unreadable_table
from rosetta_dagster.cdc.source.generated_columns import published_generated_columns
from rosetta_dagster.cdc.source.preflight.beginning import about_beginnings
from rosetta_dagster.cdc.source.preflight.encryption import about_encryption
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem
from rosetta_dagster.cdc.source.preflight.masks import about_masks
from rosetta_dagster.cdc.source.preflight.publication import about_new_publication, about_publication
from rosetta_dagster.cdc.source.preflight.selection import about_selections
from rosetta_dagster.cdc.source.preflight.server import about_failover, about_server, read_server
from rosetta_dagster.cdc.source.preflight.tables import Rights, about_rights, about_tables, read_rights
from rosetta_dagster.cdc.source.publications import (
    Publication,
    is_own,
    may_use_inserts_publication,
    read_publication,
    unidentified_tables,
)
from rosetta_dagster.cdc.table_id import TableId


def preflight(config: PipelineConfig) -> tuple[Finding, ...]:
    """Return everything that is wrong with the pipeline's source, errors first. Raises when the source cannot be asked."""
    findings = list(_about_row(config))
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        server = read_server(connection, config.slot_name)
        findings += [*about_server(server), *about_failover(server), *about_encryption(connection, config)]
        tables = [table.id for table in config.tables]
        schemas = read_schemas(connection, tables)
        findings += about_tables(connection, tables, schemas, unidentified_tables(connection, list(schemas)))
        if config.engine is Engine.DEBEZIUM:
            findings += _about_debezium(connection, config, list(schemas.values()))
        rights = read_rights(connection, list(schemas))
        findings += [finding for right in rights for finding in about_rights(right, server.username)]
        publication = read_publication(connection, config.publication_name)
        if publication is None:
            findings += about_new_publication(config.publication_name, server, rights)
        else:
            findings += about_publication(
                config.publication_name, publication, _published(connection, config, publication, rights)
            )
            generated = published_generated_columns(connection, config.publication_name, tables)
            findings += [problem(Check.PUBLICATION, error.message, error.remedy) for error in generated]
        findings += about_selections(connection, config, schemas, publication)
        findings += about_masks(config, schemas)
        findings += about_beginnings(connection, config.partly_copied, schemas)
    return tuple(sorted(findings, key=lambda finding: not finding.is_error))


def raise_findings(findings: Sequence[Finding], tables: Collection[TableId]) -> None:
    """Raise `PreflightFailed` with all errors if one concerns the whole pipeline, or if each of its tables has one."""
    errors = [finding for finding in findings if finding.is_error]
    concerned = {finding.table for finding in errors}
    if errors and (None in concerned or concerned.issuperset(tables)):
        raise PreflightFailed(" ".join(map(str, errors)), "")


def _published(
    connection: "psycopg.Connection[Any]", config: PipelineConfig, publication: Publication, rights: Sequence[Rights]
) -> list[Rights]:
    """Return the tables that the publication of all kinds of changes has to hold."""
    if not may_use_inserts_publication(config, publication):
        return list(rights)
    unidentified = unidentified_tables(connection, [right.table for right in rights])
    return [right for right in rights if right.table not in unidentified]


def _about_debezium(
    connection: "psycopg.Connection[Any]", config: PipelineConfig, schemas: Sequence[TableSchema]
) -> list[Finding]:
    errors = [*unsupported_settings(config.source.connection, config.publication_name), *unreadable_database(connection)]
    findings = [problem(Check.DEBEZIUM, error.message, error.remedy) for error in errors]
    # What Rosetta's own publication has of a table is still to be set.
    published = {} if is_own(config) else read_schemas(connection, [each.id for each in schemas], [config.publication_name])
    for schema in schemas:
        names = published.get(schema.id, schema).column_names
        unreadable = unreadable_table(connection, schema, config.selections.get(schema.id, Selection()).selected(names))
        findings += [problem(Check.DEBEZIUM, error.message, error.remedy, schema.id) for error in unreadable]
    return findings


def _about_row(config: PipelineConfig) -> list[Finding]:
    findings = []
    if not config.tables and not config.patterns:
        remedy = (
            "Insert rows into pipeline_tables (pipeline_id, table_schema, table_name), or resume one that is paused: "
            f"rosetta table resume {config.name} …"
        )
        findings.append(problem(Check.TABLES, f"Pipeline {config.name} has no tables.", remedy))
    if not config.destinations:
        remedy = "Insert a row into pipeline_destinations (pipeline_id, destination_id)."
        findings.append(problem(Check.DESTINATIONS, f"Pipeline {config.name} has no destination.", remedy))
    return findings

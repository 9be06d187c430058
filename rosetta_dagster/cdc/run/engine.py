"""Chooses the engine that captures a pipeline's changes, and what it starts from."""

from collections.abc import Sequence

from rosetta_dagster.cdc.change.masking import unmasked
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.source.base import Source
from rosetta_dagster.cdc.source.catalog import read_schemas, type_name
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.debezium.stream import DebeziumSource
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputSource
from rosetta_dagster.cdc.source.publications import debezium_publication
from rosetta_dagster.cdc.source.slots import read_slot
from rosetta_dagster.cdc.table_id import TableId

#: Beyond every LSN.
_NEVER = 1 << 64


def engine_of(
    config: PipelineConfig,
    schemas: dict[TableId, TableSchema],
    publications: Sequence[str],
    timeline: int,
    held: Sequence[Held],
) -> Source:
    """Return the pipeline's engine, ready to stream from the slot.

    `schemas` are the tables as the source has them, and `held` is what each destination holds.
    """
    connection = config.source.connection

    def read_schemas_now(tables: Sequence[TableId]) -> dict[TableId, TableSchema]:
        with source_errors(connection), connect(connection) as catalog:
            schemas_now = read_schemas(catalog, tables, publications)
            return {table: schema.on_timeline(timeline) for table, schema in schemas_now.items()}

    def read_type_name(oid: int, modifier: int) -> str:
        with source_errors(connection), connect(connection) as catalog:
            return type_name(catalog, oid, modifier)

    with source_errors(connection), connect(connection) as catalog:
        slot = read_slot(catalog, config.slot_name)
    assert slot is not None, "the attempt found or created it"
    held_schemas = {table: unmasked(schema) for table, schema in starting_schemas(held).items()}
    if config.engine is Engine.PGOUTPUT:
        return PgoutputSource(
            pipeline=config.name,
            connection=connection,
            slot_name=config.slot_name,
            publication_names=publications,
            schemas=schemas,
            held_schemas=held_schemas,
            oids={table: schema.fingerprint.oid for table, schema in schemas.items() if schema.fingerprint is not None},
            read_schema=lambda table: read_schemas_now([table]).get(table),
            type_name=read_type_name,
            confirmed_flush_lsn=slot.confirmed_flush_lsn,
        )
    return DebeziumSource(
        connection=connection,
        slot_name=config.slot_name,
        publication_name=debezium_publication(publications),
        schemas=schemas,
        held_schemas=held_schemas,
        read_schemas=read_schemas_now,
        confirmed_flush_lsn=slot.confirmed_flush_lsn,
    )


def starting_schemas(held: Sequence[Held]) -> dict[TableId, TableSchema]:
    """Return each table's columns where the stream begins: those at the destination that is furthest behind."""
    newest_first = [(_schema_lsn(each, table), number, table) for number, each in enumerate(held) for table in each.schemas]
    return {table: held[number].schemas[table] for _, number, table in sorted(newest_first, reverse=True)}


def _schema_lsn(held: Held, table: TableId) -> int:
    """Return the LSN as of which the destination knows the table's columns."""
    point = held.copied.get(table)
    applied = held.watermark.position.transaction_lsn if held.watermark is not None else 0
    # A table without a complete copy, or set aside, does not continue from its columns.
    return _NEVER if point is None or table in held.set_aside else max(point.lsn, applied)

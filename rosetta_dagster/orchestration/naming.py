"""Decides what a pipeline's job, assets and tags are called in Dagster."""

import dagster as dg

from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape, TableShape

#: On every run of a pipeline; its value is the pipeline's name.
PIPELINE_TAG = "rosetta/pipeline"

#: On the runs that the control sensor asked for. A run without it was launched by a person.
REQUESTED_TAG = "rosetta/requested_by"

WAL_LAG = "wal_lag"
HEALTH = "health"


def job_name(pipeline: str) -> str:
    return f"rosetta_{pipeline}"


def stream_key(pipeline: str) -> dg.AssetKey:
    """The asset that stands for the stream itself; it carries the checks."""
    return dg.AssetKey(["rosetta", pipeline])


def source_key(shape: PipelineShape, table: TableId) -> dg.AssetKey:
    return dg.AssetKey([shape.source.name, *table])


def destination_key(destination: DestinationShape, table: TableShape) -> dg.AssetKey:
    return dg.AssetKey([destination.name, *destination.target_of(table)])


def source_resource(name: str) -> str:
    return f"source_{_identifier(name)}"


def destination_resource(name: str) -> str:
    return f"destination_{_identifier(name)}"


def _identifier(name: str) -> str:
    """Resource keys are identifiers; sources and destinations may be called anything."""
    return "".join(
        char if char.isalnum() and char.isascii() else f"_{ord(char):x}_" if char != "_" else "_" for char in name
    )

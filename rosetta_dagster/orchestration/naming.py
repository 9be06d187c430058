"""Decides the names of a pipeline's job, assets, resources and tags in Dagster."""

import hashlib
import re

import dagster as dg

from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape, TableShape
from rosetta_dagster.cdc.table_id import TableId

#: On every run of a pipeline; its value is the pipeline's name.
PIPELINE_TAG = "rosetta/pipeline"

#: On the runs that the control sensor requested. A run without it was launched by a person.
REQUESTED_TAG = "rosetta/requested_by"

#: On every run that has streamed: its replication slot, the LSN that it started from, and the LSN up to which its changes
#: were durable at every destination when it ended.
SLOT_TAG = "rosetta/slot"
START_TAG = "rosetta/start_lsn"
END_TAG = "rosetta/end_lsn"

WAL_LAG = "wal_lag"
HEALTH = "health"
FRESHNESS = "freshness"
REPLICATED = "replicated"
SCHEMA_DRIFT = "schema_drift"
ROW_COUNT = "row_count"
RECONCILIATION = "reconciliation"

#: Metadata of the check `health`: the status that the last run reported, and the status that the pipeline should have.
RUN_STATUS = "run_status"
WANTED_STATUS = "status"

#: Metadata of a check that could not be evaluated.
NOT_EVALUATED = "not_evaluated"


def job_name(pipeline: str) -> str:
    return f"rosetta_{pipeline}"


def stream_key(pipeline: str) -> dg.AssetKey:
    """Return the key of the stream's asset, which carries the checks."""
    return dg.AssetKey(["rosetta", pipeline])


def source_key(shape: PipelineShape, table: TableId) -> dg.AssetKey:
    return dg.AssetKey([part(shape.source.name), *map(part, table)])


def destination_key(destination: DestinationShape, table: TableShape) -> dg.AssetKey:
    return dg.AssetKey([part(destination.name), *map(part, destination.target_of(table))])


def source_resource(name: str) -> str:
    return f"source_{part(name)}"


def destination_resource(name: str) -> str:
    return f"destination_{part(name)}"


def part(name: str) -> str:
    """Return a name as a part of a key: Dagster accepts letters, digits and underscores.

    Where that changes the name, a hash of it keeps the parts of two names different.

    >>> part("orders"), part("order items")
    ('orders', 'order_items_d92063')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return name if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"

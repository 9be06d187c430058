"""Destinations of every kind, opened as a run opens them."""

from collections.abc import Iterator, Mapping

import pytest

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.base import Destination, StreamIdentity
from rosetta_dagster.cdc.table_id import TableId
from tests.support.destinations import KINDS, DestinationKind, make
from tests.support.replica import IDENTITY, Open, Replica, copy


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> DestinationKind:
    return KINDS[request.param](request)


@pytest.fixture
def begin(kind: DestinationKind) -> Iterator[Open]:
    """Opens and prepares destinations of these tables; unless told otherwise, an empty copy of each is complete."""
    opened: list[Destination] = []

    def opener(
        *tables: TableSchema,
        identity: StreamIdentity = IDENTITY,
        copied: bool = True,
        namespace: str | None = None,
        targets: Mapping[TableId, TableId] | None = None,
    ) -> Replica:
        destination = make(kind, tables, pipeline=identity.pipeline, namespace=namespace, targets=targets)
        opened.append(destination)
        held = destination.open(identity)
        destination.prepare(tables)
        replica = Replica(kind, destination, held, tables)
        replica.targets = targets or {}
        missing = [schema for schema in tables if schema.id not in held.copied]
        if copied and missing:
            copy(destination, missing)
        return replica

    yield opener
    for destination in opened:
        destination.close()

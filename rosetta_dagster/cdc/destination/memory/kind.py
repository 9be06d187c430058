"""Declares the destination in memory as a kind. It is registered by the tests that want it."""

from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.memory.config import MemoryDestinationConfig
from rosetta_dagster.cdc.grants import Grants

MEMORY = DestinationKind(
    type="MEMORY",
    title="memory",
    resource="MemoryDestination",
    description="Tables in the memory of this process that changes are applied to.",
    settings=MemoryDestinationConfig,
    place=lambda config: f"memory/{config.get('database', '?')}",
    grants=lambda row, _: Grants(place=f"destination {row.name}, in memory", notes=("It needs nothing.",)),
    factory="rosetta_dagster.cdc.destination.memory.factory",
)

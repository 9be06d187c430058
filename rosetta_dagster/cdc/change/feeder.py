"""A pipeline that writes a table of the source, as one step of a circle may do."""

from dataclasses import dataclass

from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A pipeline that replicates another database's table into a table of the source."""

    pipeline: str
    #: `system_identifier` of the cluster that it reads, and its slot there.
    system_identifier: str
    slot_name: str
    #: The table that it reads.
    origin: TableId
    #: The table of the source that it writes.
    table: TableId

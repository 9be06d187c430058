"""Decides whether a partitioned table keeps its rows at the destination while it is copied again.

With `on_partition_drop = KEEP` the destination may be the only place where rows of dropped partitions still exist.
"""

from collections.abc import Iterable

from rosetta_dagster.cdc.change.pages import PageRange
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.destination.base import BegunCopy
from rosetta_dagster.cdc.errors import BrokenTable, SchemaChangeRefused


def keeps_rows(table: TableSchema, begun: BegunCopy | None) -> bool:
    """Return whether rows at the destination may be of partitions that are gone.

    Raise `SchemaChangeRefused` if the table can only be copied after it is emptied.
    """
    if begun is None or begun.table is None or not begun.table.is_partitioned:
        return False
    if begun.ranges and all(copied.pages.relation.filenode for copied in begun.ranges):
        # A first copy that was interrupted: it is resumed, or begins again.
        return False
    is_same = begun.table.key == table.key and begun.table.mask_digest == table.mask_digest
    if table.key and is_same and with_fingerprint(begun.table, table) is not None:
        return True
    error = SchemaChangeRefused(
        f"Table {table.id} has to be copied again, and is another table, or has other columns, other masks or no key. "
        "The copy would remove the rows of dropped partitions, which the pipeline keeps (on_partition_drop = KEEP).",
        "Save these rows elsewhere if they are wanted, set on_partition_drop to FOLLOW, and resync the table.",
    )
    error.broken = BrokenTable(table.id)
    raise error


def without_files(ranges: Iterable[PageRange]) -> list[PageRange]:
    """Return the ranges for a copy that keeps rows. Without their files, no later copy resumes from them.

    A resumed copy would remove the rows that the source no longer has.
    """
    return [pages._replace(relation=pages.relation._replace(filenode=0)) for pages in ranges]

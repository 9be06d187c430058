"""Decides how a relation is divided into ranges of pages, and which ranges an interrupted copy has still to read."""

from collections.abc import Iterable
from typing import NamedTuple

from rosetta_dagster.cdc.table_id import TableId

#: Pages of one range: 64 MiB, so that a lost connection costs little and parallel readers finish at about the same time.
PAGES_PER_RANGE = 8192


class Relation(NamedTuple):
    """A relation with rows: a table, or a partition of it."""

    id: TableId
    #: `pg_relation_filenode`: it changes when the relation is rewritten, by TRUNCATE, VACUUM FULL or a new type.
    filenode: int


class PageRange(NamedTuple):
    """A run of pages of one relation."""

    relation: Relation
    first_page: int
    #: None: to the end.
    end_page: int | None


class CopiedRange(NamedTuple):
    """A range whose rows are at the destination, as of some snapshot."""

    pages: PageRange
    #: The oldest transaction that the snapshot may not have seen (`pg_snapshot_xmin`). Rows that no transaction from there
    #: on has written are still as they were copied.
    xmin: int


def page_ranges(relation: Relation, page_count: int, first_page: int = 0, end_page: int | None = None) -> list[PageRange]:
    """Return ranges that cover the relation from one page to another, in order. Without `end_page` the last is open."""
    last = max(first_page + 1, page_count) if end_page is None else end_page
    starts = list(range(first_page, last, PAGES_PER_RANGE))
    return [PageRange(relation, start, end) for start, end in zip(starts, [*starts[1:], end_page], strict=True)]


def uncovered(relation: Relation, page_count: int, covered: Iterable[PageRange]) -> list[PageRange]:
    """Return ranges that cover the pages outside of `covered`, whose ranges do not overlap."""
    ranges: list[PageRange] = []
    at: int | None = 0
    for part in sorted(part for part in covered if part.relation == relation):
        if at is not None and at < part.first_page:
            ranges += page_ranges(relation, page_count, at, part.first_page)
        at = part.end_page
    return ranges if at is None else ranges + page_ranges(relation, page_count, at)

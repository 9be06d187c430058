"""Whether a partitioned table keeps its rows at the destination while it is copied again."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.copy.kept_partitions import keeps_rows, without_files
from rosetta_dagster.cdc.destination.base import BegunCopy
from rosetta_dagster.cdc.errors import SchemaChangeRefused
from rosetta_dagster.cdc.table_id import TableId

FINGERPRINT = Fingerprint(
    oid=1,
    is_partitioned=True,
    row_type="7",
    column_count=1,
    leaves=(Leaf(oid=2, filenode=20),),
    membership="1 5 2 5",
)
TABLE = TableSchema(
    id=TableId("public", "p"),
    columns=(Column(name="id", type="integer", type_oid=23, base_oid=23, number=1),),
    key=("id",),
    identity=Identity.KEY,
    fingerprint=FINGERPRINT,
)
PAGES = PageRange(Relation(TableId("public", "p1"), 20), 0, None)


def begun(*ranges: PageRange, table: TableSchema = TABLE) -> BegunCopy:
    return BegunCopy(table=table, ranges=frozenset(CopiedRange(pages, 700) for pages in ranges))


def test_rows_stay_once_the_table_was_copied() -> None:
    assert not keeps_rows(TABLE, None)
    assert keeps_rows(TABLE, begun())
    assert not keeps_rows(TABLE, begun(table=replace(TABLE, fingerprint=replace(FINGERPRINT, is_partitioned=False))))


def test_an_interrupted_first_copy_is_resumed_and_one_that_keeps_rows_is_not() -> None:
    assert not keeps_rows(TABLE, begun(PAGES)), "rows that were deleted since have to go"
    assert keeps_rows(TABLE, begun(*without_files([PAGES])))


@pytest.mark.parametrize(
    "table",
    [
        replace(TABLE, key=()),
        replace(TABLE, columns=(replace(TABLE.columns[0], type="bigint", type_oid=20, base_oid=20),)),
        replace(TABLE, fingerprint=replace(FINGERPRINT, oid=9)),
    ],
)
def test_a_table_that_cannot_keep_them_is_set_aside(table: TableSchema) -> None:
    with pytest.raises(SchemaChangeRefused, match="on_partition_drop = KEEP") as refused:
        keeps_rows(table, begun())
    assert refused.value.broken is not None
    assert refused.value.broken.table == TABLE.id

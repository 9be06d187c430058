"""What COPY does at Snowflake: lengths, large rows, types that differ, waiters; and a database that was restored."""

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.errors import DestinationUnavailable
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import Fault, FaultKind
from tests.support.changes import column, insert
from tests.support.destinations import SnowflakeKind, make
from tests.support.replica import BEGINNING, IDENTITY, ITEMS, NOTES, copy, pages
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open, items
from tests.support.snowflake_values import apply

_MIB = 1024 * 1024


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_values_above_16_mib_are_written_where_the_limit_allows_them(
    begin: Open, snowflake_database: SnowflakeDatabase, is_copied: bool
) -> None:
    destination = begin(ITEMS, copied=False, values={"value_limit_bytes": 32 * _MIB})
    large = "x" * (17 * _MIB)
    copy(destination, [ITEMS], f"1\t{large}\t\\N\n".encode() if is_copied else b"")
    if not is_copied:
        apply(destination, 1, insert(ITEMS, "1", large, None))
    assert [(17 * _MIB,)] == snowflake_database.rows('SELECT LENGTH(NAME) FROM "PUBLIC".ITEMS')
    assert [] == [drift for drift in destination.drift([ITEMS]) if "NOT NULL" not in drift.problem]


def test_a_column_that_is_too_short_for_the_limit_is_named_with_its_statement(
    begin: Open, snowflake_database: SnowflakeDatabase
) -> None:
    begin(ITEMS).close()
    found = begin(ITEMS, values={"value_limit_bytes": 32 * _MIB}).drift([ITEMS])
    statements = {drift.statement for drift in found if "VARCHAR" in drift.problem}
    assert 'ALTER TABLE "PUBLIC"."ITEMS" ALTER COLUMN "NAME" SET DATA TYPE VARCHAR(33554432)' in statements


def test_a_row_may_be_larger_than_one_value(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    destination = begin(ITEMS, copied=False)
    copy(destination, [ITEMS], f"1\t{'x' * 9 * _MIB}\t{'y' * 9 * _MIB}\n".encode())
    apply(destination, 1, insert(ITEMS, "2", "x" * 9 * _MIB, "y" * 9 * _MIB))
    assert [(9 * _MIB, 9 * _MIB)] * 2 == snowflake_database.rows('SELECT LENGTH(NAME), LENGTH(SIZE) FROM "PUBLIC".ITEMS')


COUNTED = TableSchema(
    id=TableId("public", "items"),
    columns=(column("id", "integer", oid=23), column("price", "numeric(10,2)", oid=1700)),
    key=("id",),
    identity=Identity.KEY,
)


def test_files_are_not_loaded_into_a_table_whose_types_differ(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    snowflake_database.rows('CREATE TABLE "PUBLIC".ITEMS (ID NUMBER(10,0) NOT NULL, PRICE FLOAT)')
    copy(begin(COUNTED, copied=False), [COUNTED], b"1\t2.25\n")
    assert [(1, 2.25)] == items(snowflake_database, "ID, PRICE")


def test_columns_of_the_table_alone_keep_their_default(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    snowflake_database.rows(
        "CREATE TABLE \"PUBLIC\".ITEMS (ID NUMBER(10,0) NOT NULL, PRICE NUMBER(10,2), ORIGIN VARCHAR DEFAULT 'shop')"
    )
    copy(begin(COUNTED, copied=False), [COUNTED], b"1\t2.25\n")
    assert [(1, "shop")] == items(snowflake_database, "ID, ORIGIN")


@pytest.mark.parametrize("statement", ["^INSERT INTO ROSETTA.COPIED_RANGES", "^UPDATE ROSETTA.COPIES", "^COPY INTO"])
def test_a_copy_goes_on_when_too_many_statements_wait_for_a_table(
    begin: Open, snowflake_database: SnowflakeDatabase, statement: str
) -> None:
    assert snowflake_database.server is not None
    destination = begin(NOTES, copied=False)
    destination.start_copy([NOTES], BEGINNING)
    snowflake_database.server.inject(Fault(kind=FaultKind.TOO_MANY_WAITERS, matching=statement))
    with destination.loader() as loader:
        loader.load(NOTES, pages(), [b"a\t\\N\n"])
    destination.finish_copy(NOTES)
    assert [] == snowflake_database.server.pending_faults()
    assert [("a",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')


def test_a_batch_is_written_once_when_too_many_statements_wait(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    assert snowflake_database.server is not None
    destination = begin(ITEMS, NOTES)
    wider = TableSchema(
        id=ITEMS.id, columns=(*ITEMS.columns, column("color", number=9)), key=ITEMS.key, identity=Identity.KEY
    )
    snowflake_database.server.inject(Fault(kind=FaultKind.TOO_MANY_WAITERS, matching='^MERGE INTO "PUBLIC"'))
    snowflake_database.server.inject(Fault(kind=FaultKind.TOO_MANY_WAITERS, matching="^UPDATE ROSETTA.COPIES"))
    apply(destination, 1, insert(NOTES, "n", None), insert(wider, "1", "a", None, "red"))
    assert [("1", "red")] == items(snowflake_database, "ID, COLOR")
    assert [("n",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')
    again = make(SnowflakeKind(snowflake_database), [ITEMS, NOTES])
    assert "color" in again.open(IDENTITY).schemas[ITEMS.id].column_names
    again.close()


def test_waiting_ends_when_the_run_is_asked_to_stop(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    assert snowflake_database.server is not None
    destination = begin(NOTES)
    destination._live.session._is_unwanted = lambda: True  # type: ignore[attr-defined]
    with pytest.raises(DestinationUnavailable, match="asked to stop"):
        apply(destination, 1, insert(NOTES, "n", None))


def test_a_watermark_that_was_restored_does_not_continue_the_slot(
    begin: Open, snowflake_database: SnowflakeDatabase
) -> None:
    destination = begin(ITEMS)
    apply(destination, 1, insert(ITEMS, "1", "a", None))
    ((stream,),) = snowflake_database.rows(
        "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE STARTSWITH(TABLE_NAME, 'STREAM_')"
    )
    snowflake_database.rows(f"CREATE TABLE PUBLIC.BEFORE AS SELECT * FROM ROSETTA.{stream}")
    apply(destination, 2, insert(ITEMS, "2", "b", None))
    destination.note(Lsn(10_000))
    destination.close()
    again = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert again.open(IDENTITY).is_continued_by(Lsn(10_000))
    again.close()
    # As after UNDROP, CLONE … AT, or CREATE OR REPLACE TABLE … AS SELECT … AT.
    snowflake_database.rows(f"DELETE FROM ROSETTA.{stream}")
    snowflake_database.rows(f"INSERT INTO ROSETTA.{stream} SELECT * FROM PUBLIC.BEFORE")
    held = again.open(IDENTITY)
    assert held.noted is None
    assert not held.is_continued_by(Lsn(10_000))
    again.close()

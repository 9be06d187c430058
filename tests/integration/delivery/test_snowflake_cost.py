"""What a flush and a start cost at Snowflake: statements side by side, and those that need no warehouse."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.schema import Column, Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.destination.snowflake import state
from rosetta_dagster.cdc.errors import DestinationUnavailable
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import Fault, FaultKind, SnowflakeServer
from tests.support.changes import column, insert, update
from tests.support.replica import BEGINNING, ITEMS, pages
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open, items
from tests.support.snowflake_values import apply

TABLES = [
    TableSchema(id=TableId("public", f"items_{number}"), columns=ITEMS.columns, key=ITEMS.key, identity=Identity.KEY)
    for number in range(12)
]


@pytest.fixture
def server(snowflake_database: SnowflakeDatabase) -> Iterator[SnowflakeServer]:
    assert snowflake_database.server is not None
    yield snowflake_database.server
    snowflake_database.rows("ALTER ACCOUNT UNSET EMULATOR_STATEMENT_SECONDS")


def test_tables_are_staged_and_merged_side_by_side(
    begin: Open, snowflake_database: SnowflakeDatabase, server: SnowflakeServer
) -> None:
    destination = begin(*TABLES)
    apply(destination, 1, *[insert(table, "1", "a", None) for table in TABLES])
    snowflake_database.rows("ALTER ACCOUNT SET EMULATOR_STATEMENT_SECONDS = 0.3")
    server.forget_statements()
    began = time.monotonic()
    apply(destination, 2, *[update(table, "1", "b", "x") for table in TABLES])
    took = time.monotonic() - began
    one_by_one = 0.3 * len(server.statements())
    assert took < one_by_one * 0.7, f"{took:.1f} s for statements of {one_by_one:.1f} s"
    assert 1 == len(server.statements("^COMMIT"))
    snowflake_database.rows("ALTER ACCOUNT UNSET EMULATOR_STATEMENT_SECONDS")
    assert [("1", "b", "x")] * 12 == [
        row for table in TABLES for row in snowflake_database.rows(f'SELECT ID, NAME, SIZE FROM "PUBLIC".{table.id.name}')
    ]


def test_no_statement_of_a_transaction_outlives_it(
    begin: Open, snowflake_database: SnowflakeDatabase, server: SnowflakeServer
) -> None:
    destination = begin(*TABLES)
    server.forget_statements()
    server.inject(
        Fault(kind=FaultKind.STALL, matching='^MERGE INTO "PUBLIC"."ITEMS_0"', seconds=2),
        Fault(kind=FaultKind.INTERNAL_ERROR, matching='^MERGE INTO "PUBLIC"."ITEMS_1"'),
    )
    with pytest.raises(DestinationUnavailable, match="300010"):
        apply(destination, 1, *[insert(table, "1", "a", None) for table in TABLES])
    sent = [statement.text for statement in server.statements("^(MERGE|ROLLBACK|COMMIT)")]
    assert "ROLLBACK" == sent[-1]
    assert sent[-1:] == [text for text in sent if not text.startswith("MERGE")]
    for table in TABLES:
        assert [] == snowflake_database.rows(f'SELECT ID FROM "PUBLIC".{table.id.name}')


@pytest.mark.parametrize(
    ("added", "shown", "statements"),
    [
        (column("extra", "integer", oid=23), ("7", 7), 0),
        (column("extra", "numeric(8,2)", oid=1700), ("-1.50", -1.5), 0),
        (column("extra"), (r"it's a \n", r"it's a \n"), 0),
        (column("extra", "boolean", oid=16), ("t", True), 0),
        (column("extra", "double precision", oid=701), ("1.5", 1.5), 1),
    ],
    ids=lambda each: each.type if isinstance(each, Column) else None,
)
def test_a_constant_of_an_added_column_rewrites_no_row(
    begin: Open, snowflake_database: SnowflakeDatabase, added: Column, shown: tuple[str, object], statements: int
) -> None:
    value, held = shown
    assert snowflake_database.server is not None
    destination = begin(ITEMS)
    apply(destination, 1, insert(ITEMS, "1", "a", None))
    filled = replace(added, number=4, filling=OldRowValues.CONSTANT, fill_value=value)
    wider = TableSchema(id=ITEMS.id, columns=(*ITEMS.columns, filled), key=ITEMS.key, identity=Identity.KEY)
    snowflake_database.server.forget_statements()
    apply(destination, 2, insert(ITEMS, "2", "b", None), insert(wider, "3", "c", None, None))
    assert statements == len(snowflake_database.server.statements('^UPDATE "PUBLIC"'))
    assert [("1", held), ("2", held), ("3", None)] == items(snowflake_database, "ID, EXTRA")


def test_options_of_created_tables(begin: Open, server: SnowflakeServer) -> None:
    begin(ITEMS, transient=True, retention_days=0, cluster_by={"public.items": ["name", "id"]})
    (statement,) = server.statements('^CREATE TRANSIENT TABLE IF NOT EXISTS "PUBLIC"."ITEMS"')
    assert statement.text.endswith(') CLUSTER BY ("NAME", "ID") DATA_RETENTION_TIME_IN_DAYS = 0')


def test_counts_of_rows_and_the_look_at_tables_need_no_warehouse(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    destination = begin(ITEMS)
    apply(destination, 1, insert(ITEMS, "1", "a", None))
    snowflake_database.rows("ALTER WAREHOUSE COMPUTE_WH SUSPEND")
    try:
        assert {ITEMS.id: 1} == destination.row_counts([ITEMS.id])
        destination.prepare([ITEMS])
    finally:
        snowflake_database.rows("ALTER WAREHOUSE COMPUTE_WH RESUME")


def test_counts_of_substituted_values_are_summed_up(
    begin: Open, snowflake_database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(ITEMS).close()
    rows = "('shop', 'a', 'NaN', 2, 1), ('shop', 'a', 'NaN', 3, 2), ('shop', 'b', 'NaN', 1, 0), ('other', 'a', 'NaN', 9, 3)"
    snowflake_database.rows(
        "INSERT INTO ROSETTA.SUBSTITUTIONS SELECT COLUMN1, COLUMN2, COLUMN3, COLUMN4, "
        f"DATEADD(DAY, -COLUMN5, CURRENT_TIMESTAMP())::TIMESTAMP_TZ FROM (VALUES {rows})"
    )
    monkeypatch.setattr(state, "SUBSTITUTIONS_KEPT", 3)
    begin(ITEMS).close()
    counted = snowflake_database.rows("SELECT PIPELINE, PLACE, VALUE_COUNT FROM ROSETTA.SUBSTITUTIONS")
    assert [("other", "a", 9), ("shop", "a", 5), ("shop", "b", 1)] == sorted(counted)


def test_copies_are_loaded_by_their_own_warehouse(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    snowflake_database.rows("CREATE WAREHOUSE COPIES_WH")
    destination = begin(ITEMS, copied=False, copy_warehouse="COPIES_WH")
    destination.start_copy([ITEMS], BEGINNING)
    snowflake_database.rows("ALTER WAREHOUSE COMPUTE_WH SUSPEND")
    try:
        with destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\tx\n"])
    finally:
        snowflake_database.rows("ALTER WAREHOUSE COMPUTE_WH RESUME")
    destination.finish_copy(ITEMS)
    apply(destination, 1, update(ITEMS, "1", "b", "y"))
    assert [("1", "b", "y")] == items(snowflake_database)

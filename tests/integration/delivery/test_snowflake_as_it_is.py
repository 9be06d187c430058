"""Where Snowflake surprises: defaults of the account, locks, sessions, privileges, reserved names, documents."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.errors import DestinationRejected, WatermarkMoved
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import Fault, FaultKind, SnowflakeServer
from tests.support.changes import column, delete, delete_whole, insert, update
from tests.support.destinations import SnowflakeKind, make
from tests.support.replica import BEGINNING, IDENTITY, ITEMS, NOTES, copy, pages, with_columns
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open, items
from tests.support.snowflake_values import FACTS, apply


@pytest.fixture
def account_defaults(snowflake_database: SnowflakeDatabase) -> Iterator[None]:
    """Parameters that an account may set, and that a session inherits."""
    snowflake_database.rows("ALTER ACCOUNT SET QUOTED_IDENTIFIERS_IGNORE_CASE = TRUE, DEFAULT_DDL_COLLATION = 'en-ci'")
    yield
    snowflake_database.rows("ALTER ACCOUNT UNSET QUOTED_IDENTIFIERS_IGNORE_CASE, DEFAULT_DDL_COLLATION")


@pytest.mark.usefixtures("account_defaults")
class TestAccountDefaults:
    def test_names_keep_their_case(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        schema = TableSchema(id=TableId("Shop", "Order"), columns=ITEMS.columns, key=ITEMS.key, identity=Identity.KEY)
        destination = begin(schema, preserve_case=True)
        apply(destination, 1, insert(schema, "1", "a", None))
        query = "SELECT TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'Shop' ORDER BY 2"
        assert [("Order", "id"), ("Order", "name"), ("Order", "size")] == snowflake_database.rows(query)

    def test_keys_that_differ_in_case_are_two(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        destination = begin(ITEMS, NOTES)
        apply(destination, 1, insert(ITEMS, "a", "x", None), insert(ITEMS, "A", "y", None), insert(NOTES, "n", None))
        apply(destination, 2, delete(ITEMS, "A"), insert(NOTES, "N", None))
        apply(destination, 3, delete_whole(NOTES, "N", None))
        assert [("a", "x", None)] == items(snowflake_database)
        assert [("n",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')

    def test_two_pipelines_that_differ_in_case_have_states_of_their_own(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        begin(ITEMS)
        other = make(SnowflakeKind(snowflake_database), [ITEMS])
        other._pipeline = "SHOP"  # type: ignore[attr-defined]
        held = other.open(replace(IDENTITY, pipeline="SHOP"))
        other.close()
        assert {} == held.copied


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_a_document_that_snowflake_cannot_parse_is_null_and_counted(
    begin: Open, snowflake_database: SnowflakeDatabase, is_copied: bool
) -> None:
    table = TableSchema(
        id=TableId("public", "documents"),
        columns=(ITEMS.columns[0], column("document", "json", oid=114)),
        key=("id",),
        identity=Identity.KEY,
    )
    destination, broken = begin(table, copied=False), r'{"a": "\u0000"}'
    copy(destination, [table], b'1\t{"a": "\\\\u0000"}\n2\tnull\n' if is_copied else b"")
    if not is_copied:
        apply(destination, 1, insert(table, "1", broken), insert(table, "2", "null"))
    assert [("1", True), ("2", False)] == snowflake_database.rows(
        'SELECT ID, DOCUMENT IS NULL FROM "PUBLIC".DOCUMENTS ORDER BY ID'
    )
    counted = snowflake_database.rows("SELECT PLACE, REASON, VALUE_COUNT FROM ROSETTA.SUBSTITUTIONS")
    assert [("table public.documents, column document", "not valid JSON", 1)] == counted


def test_columns_whose_names_snowflake_reserves_are_in_lower_case(
    begin: Open, snowflake_database: SnowflakeDatabase
) -> None:
    table = with_columns(ITEMS, name="current_user", size="localtime")
    destination = begin(table, copied=False)
    copy(destination, [table], b"1\ta\tx\n")
    apply(destination, 1, update(table, "1", "b", UNCHANGED))
    assert [("1", "b", "x")] == items(snowflake_database, 'ID, "current_user", "localtime"')
    assert [] == [drift for drift in destination.drift([table]) if "NOT NULL" not in drift.problem]


def test_schemas_that_exist_need_no_privilege_to_create_schemas(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    begin(ITEMS).close()
    database = snowflake_database.config["database"]
    snowflake_database.rows(f"REVOKE CREATE SCHEMA ON DATABASE {database} FROM ROLE PUBLIC")
    apply(begin(ITEMS, NOTES), 1, insert(NOTES, "a", None))
    missing = TableSchema(id=TableId("other", "items"), columns=ITEMS.columns, key=ITEMS.key, identity=Identity.KEY)
    with pytest.raises(DestinationRejected, match="Insufficient privileges"):
        begin(missing)


def test_a_note_of_an_older_version_is_read(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    begin(ITEMS).close()
    ((view,),) = snowflake_database.rows("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.VIEWS WHERE TABLE_SCHEMA = 'ROSETTA'")
    snowflake_database.rows(f"CREATE OR REPLACE VIEW ROSETTA.{view} AS SELECT 4711::NUMBER(20,0) AS LSN")
    destination = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert Lsn(4711) == destination.open(IDENTITY).noted
    destination.note(Lsn(4712))
    destination.close()
    again = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert Lsn(4712) == again.open(IDENTITY).noted
    again.close()
    again.forget()
    assert again.open(IDENTITY).noted is None
    again.close()


def test_tables_with_times_have_no_drift(begin: Open) -> None:
    found = [drift.problem for drift in begin(FACTS).drift([FACTS])]
    assert ["Column ID is NOT NULL here only."] == found, "the table of the test says nothing of NOT NULL"


@pytest.fixture
def play(snowflake_database: SnowflakeDatabase) -> Iterator[Callable[[str], object]]:
    """Sets parameters by which the emulator plays what Snowflake's documentation leaves open."""
    names = ["EMULATOR_STALE_UPDATES", "EMULATOR_STALE_READS"]
    yield lambda name: snowflake_database.rows(f"ALTER ACCOUNT SET {name} = TRUE")
    snowflake_database.rows(f"ALTER ACCOUNT UNSET {', '.join(names)}")


@pytest.mark.parametrize("is_stale", [False, True], ids=["the row is read again", "the row is not read again"])
def test_a_run_that_waits_for_another_one_writes_nothing(
    begin: Open, snowflake_database: SnowflakeDatabase, play: Callable[[str], object], is_stale: bool
) -> None:
    one, other, server = begin(ITEMS, NOTES), begin(ITEMS, NOTES), snowflake_database.server
    assert server is not None
    if is_stale:
        play("EMULATOR_STALE_UPDATES")
    server.forget_statements()
    server.inject(Fault(kind=FaultKind.STALL, matching="^COMMIT", seconds=4))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(apply, one, 1, insert(ITEMS, "1", "of one", None))
        _await_statement(server, "^COMMIT")
        with pytest.raises(WatermarkMoved):
            apply(other, 1, insert(NOTES, "of the other", None))
        first.result()
    assert 2 == len(server.statements("^UPDATE ROSETTA.FENCE"))
    assert [] == server.statements('^INSERT INTO "PUBLIC"')
    assert [("1", "of one", None)] == items(snowflake_database)
    assert [] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')
    apply(one, 2, insert(NOTES, "of one", None))


def _await_statement(server: SnowflakeServer, matching: str) -> None:
    deadline = time.monotonic() + 60
    while not server.statements(matching):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_changes_are_merged_by_a_session_that_sees_the_copy(
    begin: Open, snowflake_database: SnowflakeDatabase, play: Callable[[str], object]
) -> None:
    destination = begin(ITEMS, copied=False)
    play("EMULATOR_STALE_READS")
    destination.start_copy([ITEMS], BEGINNING)
    with destination.loader() as loader:
        loader.load(ITEMS, pages(), [b"1\ta\tx\n"])
    destination.finish_copy(ITEMS)
    apply(destination, 1, update(ITEMS, "1", "b", "y"))
    snowflake_database.rows("ALTER ACCOUNT UNSET EMULATOR_STALE_READS")
    assert [("1", "b", "y")] == items(snowflake_database)


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_a_text_that_looks_like_null_stays_a_text(
    begin: Open, snowflake_database: SnowflakeDatabase, is_copied: bool
) -> None:
    destination = begin(ITEMS, copied=False)
    copy(destination, [ITEMS], rb"\\N	\\N	\N" + b"\n" if is_copied else b"")
    if not is_copied:
        apply(destination, 1, insert(ITEMS, r"\N", r"\N", None))
    assert [(r"\N", r"\N", None)] == items(snowflake_database)

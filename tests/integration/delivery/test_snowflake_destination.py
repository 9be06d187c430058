"""What only Snowflake has: its options, its types, answers that get lost, and a warehouse that is to be left asleep."""

from collections.abc import Callable
from typing import Any

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.destination.snowflake import stage
from rosetta_dagster.cdc.errors import (
    BrokenTable,
    ConfigurationError,
    DestinationRejected,
    DestinationUnavailable,
    RosettaError,
    SchemaChangeRefused,
    TableAltered,
    WatermarkMoved,
)
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import Fault, FaultKind
from tests.support.changes import column, delete, delete_whole, insert, rekey, truncate, update
from tests.support.database import Database
from tests.support.destinations import SnowflakeKind, make
from tests.support.pipelines import failure, running, wait_until
from tests.support.replica import BEGINNING, IDENTITY, ITEMS, NOTES, copy, pages, typed, watermark, with_columns
from tests.support.slow_copies import slow_down
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open, items
from tests.support.snowflake_values import FACTS, HELD, TEXTS, apply


class TestSoftDeletes:
    LIVE = '"ID", "NAME", "SIZE", "_ROSETTA_DELETED_AT" IS NULL'

    def test_a_deleted_row_stays_and_is_marked(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        destination = begin(ITEMS, deletes="soft")
        apply(destination, 1, insert(ITEMS, "1", "a", "x"), insert(ITEMS, "2", "b", "y"))
        apply(destination, 2, delete(ITEMS, "1"))
        assert [("1", "a", "x", False), ("2", "b", "y", True)] == items(snowflake_database, self.LIVE)
        assert {ITEMS.id: 1} == destination.row_counts([ITEMS.id])

    def test_a_row_that_comes_again_is_not_marked(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        destination = begin(ITEMS, deletes="soft")
        apply(destination, 1, insert(ITEMS, "1", "a", "x"))
        apply(destination, 2, delete(ITEMS, "1"))
        apply(destination, 3, insert(ITEMS, "1", "b", None))
        assert [("1", "b", None, True)] == items(snowflake_database, self.LIVE)

    def test_a_truncate_marks_every_row(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        destination = begin(ITEMS, deletes="soft", deleted_at_column="gone_at")
        apply(destination, 1, insert(ITEMS, "1", "a", "x"))
        apply(destination, 2, truncate(ITEMS), insert(ITEMS, "2", "b", None))
        assert [("1", False), ("2", True)] == items(snowflake_database, "ID, GONE_AT IS NULL")

    def test_a_row_that_moves_leaves_a_marked_one_behind(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        destination = begin(ITEMS, deletes="soft")
        apply(destination, 1, insert(ITEMS, "1", "a", "large"), insert(ITEMS, "2", "b", "y"))
        apply(destination, 2, delete(ITEMS, "2"))
        apply(destination, 3, rekey(ITEMS, ("1",), "2", "c", UNCHANGED))
        assert [("1", "a", "large", False), ("2", "c", "large", True)] == items(snowflake_database, self.LIVE)

    def test_of_equal_rows_without_a_key_as_many_are_marked_as_went(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        destination = begin(NOTES, deletes="soft")
        apply(destination, 1, *[insert(NOTES, "same", None)] * 3)
        apply(destination, 2, delete_whole(NOTES, "same", None))
        apply(destination, 3, delete_whole(NOTES, "same", None))
        marks = snowflake_database.rows('SELECT "_ROSETTA_DELETED_AT" IS NULL FROM "PUBLIC".NOTES')
        assert [(False,), (False,), (True,)] == sorted(marks)
        assert {NOTES.id: 1} == destination.row_counts([NOTES.id])


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_values_arrive_typed(begin: Open, snowflake_database: SnowflakeDatabase, is_copied: bool) -> None:
    destination = begin(FACTS, copied=False)
    nulls = ["\\N"] * (len(TEXTS) - 1)
    if is_copied:
        line = "\t".join(text.replace("\\", "\\\\") for text in TEXTS)
        copy(destination, [FACTS], (line + "\n" + "\t".join(["2", *nulls]) + "\n").encode())
    else:
        copy(destination, [FACTS])
        apply(destination, 1, insert(FACTS, *TEXTS), insert(FACTS, "2", *[None] * len(nulls)))
    names = ", ".join(f'"{name.upper()}"' for name in FACTS.column_names)
    first, second = snowflake_database.rows(f'SELECT {names} FROM "PUBLIC".FACTS ORDER BY 1')
    assert (2, *[None] * len(nulls)) == second
    assert HELD == tuple(bytes(value) if isinstance(value, bytearray) else _compact(value) for value in first)


def _compact(value: Any) -> Any:
    """A document without the spaces that Snowflake and its emulator put into it."""
    return value.replace(" ", "").replace("\n", "") if isinstance(value, str) and value.startswith("{") else value


def test_what_a_policy_touched_is_counted_with_the_data(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    days = TableSchema(id=TableId("public", "days"), columns=(ITEMS.columns[0], _day()), key=("id",), identity=Identity.KEY)
    destination = begin(days, copied=False)
    copy(destination, [days], b"1\tinfinity\n2\t2024-01-01\n")
    apply(destination, 1, insert(days, "3", "-infinity"), insert(days, "4", "0044-03-15 BC"))
    query = "SELECT PIPELINE, PLACE, REASON, VALUE_COUNT FROM ROSETTA.SUBSTITUTIONS ORDER BY VALUE_COUNT"
    place = "table public.days, column day"
    assert [("shop", place, "out of range", 1), ("shop", place, "out of range", 2)] == snowflake_database.rows(query)


def _day() -> Column:
    return column("day", "date", oid=1082)


class TestLostAnswers:
    @pytest.mark.parametrize("lost", ["^COMMIT", "^MERGE", "^UPDATE ROSETTA", "^BEGIN", "^COPY", "^PUT"])
    def test_a_batch_whose_answer_is_lost_arrives_once_after_a_restart(
        self, begin: Open, snowflake_database: SnowflakeDatabase, lost: str
    ) -> None:
        first, server = begin(ITEMS, NOTES), snowflake_database.server
        assert server is not None
        changes = [insert(ITEMS, "1", "a", None), insert(NOTES, "x", None)]
        apply(first, 1, *changes)
        server.inject(Fault(kind=FaultKind.ANSWER_LOST, matching=lost))
        later = [
            update(ITEMS, "1", "b", None),
            insert(NOTES, "x", None),
            delete_whole(NOTES, "x", None),
            insert(NOTES, "x", None),
        ]
        with pytest.raises(DestinationUnavailable):
            apply(first, 2, *later)
        assert [] == server.pending_faults()
        first.close()
        server.abort_transactions()
        second = make(SnowflakeKind(snowflake_database), [ITEMS, NOTES])
        held = second.open(IDENTITY)
        assert held.watermark in (watermark(1), watermark(2))
        assert (held.watermark == watermark(2)) == (lost == "^COMMIT")
        if held.watermark == watermark(1):
            apply(second, 2, *later)
        second.close()
        assert [("1", "b", None)] == items(snowflake_database)
        assert [("x",), ("x",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')

    @pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.ANSWER_DELAYED])
    def test_a_request_that_fails_is_repeated_and_runs_once(
        self, begin: Open, snowflake_database: SnowflakeDatabase, kind: FaultKind
    ) -> None:
        destination, server = begin(NOTES), snowflake_database.server
        assert server is not None
        server.forget_statements()
        server.inject(Fault(kind=kind, matching='^INSERT INTO "PUBLIC"'), Fault(kind=kind, matching="^COMMIT"))
        apply(destination, 1, insert(NOTES, "once", None))
        assert [] == server.pending_faults()
        assert 1 == len(server.statements('^INSERT INTO "PUBLIC"'))
        assert [("once",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')

    def test_a_copy_whose_answer_is_lost_is_done_again_and_nothing_doubled(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        first, server = begin(NOTES, copied=False), snowflake_database.server
        assert server is not None
        first.start_copy([NOTES], BEGINNING)
        server.inject(Fault(kind=FaultKind.ANSWER_LOST, matching="^COMMIT"))
        with pytest.raises(DestinationUnavailable), first.loader() as loader:
            loader.load(NOTES, pages(), [b"a\t\\N\n"])
        assert [("a",)] == snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES')
        first.close()
        second = begin(NOTES, copied=False)
        copy(second, [NOTES], b"a\t\\N\nb\t\\N\n")
        assert [("a",), ("b",)] == sorted(snowflake_database.rows('SELECT TEXT FROM "PUBLIC".NOTES'))


class TestColumns:
    RENAMED = with_columns(ITEMS, name="label")

    @pytest.mark.parametrize("broken", ["^MERGE", "^ALTER"])
    def test_changes_from_before_a_rename_come_again_after_a_crash(
        self, begin: Open, snowflake_database: SnowflakeDatabase, broken: str
    ) -> None:
        first, server = begin(ITEMS), snowflake_database.server
        assert server is not None
        before, after = insert(ITEMS, "1", "a", "x"), insert(self.RENAMED, "2", "b", "y")
        server.inject(Fault(kind=FaultKind.UNAVAILABLE, matching=broken, count=50))
        with pytest.raises(DestinationUnavailable):
            apply(first, 1, before, after)
        server.clear_faults()
        first.close()
        second = make(SnowflakeKind(snowflake_database), [ITEMS])
        assert {ITEMS.id: ITEMS} == second.open(IDENTITY).schemas
        second.prepare([self.RENAMED])
        apply(second, 1, before)
        apply(second, 2, after, update(self.RENAMED, "1", UNCHANGED, "z"))
        second.close()
        assert [("1", "a", "z"), ("2", "b", "y")] == items(snowflake_database, "ID, LABEL, SIZE")
        third = make(SnowflakeKind(snowflake_database), [ITEMS])
        assert {ITEMS.id: self.RENAMED} == third.open(IDENTITY).schemas
        third.close()

    def test_columns_that_pass_their_names_on_keep_their_values(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        destination = begin(ITEMS)
        apply(destination, 1, insert(ITEMS, "1", "a", "x"))
        passed = with_columns(ITEMS, name="size", size="weight")
        apply(destination, 2, insert(passed, "2", "b", "y"))
        assert [("1", "a", "x"), ("2", "b", "y")] == items(snowflake_database, "ID, SIZE, WEIGHT")

    def test_columns_that_swap_their_names_set_the_table_aside(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        destination = begin(ITEMS)
        apply(destination, 1, insert(ITEMS, "1", "a", "x"))
        swapped = with_columns(ITEMS, name="size", size="name")
        with pytest.raises(SchemaChangeRefused) as raised:
            apply(destination, 2, insert(swapped, "2", "b", "y"))
        assert raised.value.broken == BrokenTable(ITEMS.id, destination.name)
        assert [("1", "a", "x")] == items(snowflake_database)

    def test_a_type_that_snowflake_cannot_change_in_place_sets_the_table_aside(self, begin: Open) -> None:
        before = typed({"id": "integer", "value": "integer"}, "id")
        destination = begin(before)
        with pytest.raises(SchemaChangeRefused, match=r"NUMBER\(10,0\).*VARCHAR.*Resync"):
            apply(destination, 1, insert(typed({"id": "integer", "value": "text"}, "id"), "1", "a"))

    def test_a_warehouse_that_is_missing_sets_no_table_aside(
        self, begin: Open, snowflake_database: SnowflakeDatabase
    ) -> None:
        destination, server = begin(ITEMS), snowflake_database.server
        assert server is not None
        server.inject(Fault(kind=FaultKind.WAREHOUSE_SUSPENDED, matching="^MERGE"))
        with pytest.raises(ConfigurationError) as raised:
            apply(destination, 1, insert(ITEMS, "1", "a", None))
        assert raised.value.broken is None

    def test_drift_names_each_difference(self, begin: Open, snowflake_database: SnowflakeDatabase) -> None:
        table = typed({"id": "integer", "value": "text"}, "id", name="drifting")
        destination = begin(table)
        assert [] == destination.drift([table])
        snowflake_database.rows('ALTER TABLE "PUBLIC".DRIFTING ADD COLUMN EXTRA VARCHAR')
        wanted = typed({"id": "bigint", "value": "text", "more": "json"}, "id", name="drifting")
        found = destination.drift([wanted])
        assert [
            ('ALTER TABLE "PUBLIC"."DRIFTING" ALTER COLUMN "ID" SET DATA TYPE NUMBER(19,0)', True),
            ('ALTER TABLE "PUBLIC"."DRIFTING" DROP COLUMN IF EXISTS "EXTRA"', False),
            ('ALTER TABLE "PUBLIC"."DRIFTING" ADD COLUMN IF NOT EXISTS "MORE" VARIANT', False),
        ] == [(drift.statement, drift.breaks) for drift in found]


def test_state_tables_of_an_older_version_are_extended(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    destination = begin(ITEMS)
    apply(destination, 1, insert(ITEMS, "1", "a", None))
    destination.note(Lsn(500))
    destination.close()
    for column_name in ("SOURCE_COLUMNS", "COLUMN_NAMES", "SET_ASIDE_AT", "SET_ASIDE_REASON", "TARGET_NAME"):
        snowflake_database.rows(f"ALTER TABLE ROSETTA.COPIES DROP COLUMN {column_name}")
    snowflake_database.rows("DROP TABLE ROSETTA.COPIED_RANGES")
    again = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert Held(watermark=watermark(1), copied={ITEMS.id: BEGINNING}, noted=Lsn(500)) == again.open(IDENTITY)
    apply(again, 2, insert(ITEMS, "2", "b", None))
    again.close()
    again.set_aside(ITEMS.id, "because")
    assert {ITEMS.id: "because"} == make(SnowflakeKind(snowflake_database), [ITEMS]).open(IDENTITY).set_aside


def test_a_copy_from_before_targets_were_noted_is_of_the_target_of_now(
    begin: Open, snowflake_database: SnowflakeDatabase
) -> None:
    destination = begin(ITEMS)
    apply(destination, 1, insert(ITEMS, "1", "a", None))
    destination.close()
    for column_name in ("TARGET_NAME", "TARGET_SCHEMA"):
        snowflake_database.rows(f"ALTER TABLE ROSETTA.COPIES DROP COLUMN {column_name}")
    again = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert {ITEMS.id: BEGINNING} == again.open(IDENTITY).copied
    again.close()
    assert [("PUBLIC", "ITEMS")] == snowflake_database.rows("SELECT TARGET_SCHEMA, TARGET_NAME FROM ROSETTA.COPIES")
    moved = make(SnowflakeKind(snowflake_database), [ITEMS], targets={ITEMS.id: TableId("kept", "items")})
    assert {} == moved.open(IDENTITY).copied
    moved.close()


def test_names_keep_their_case_when_the_config_says_so(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    schema = TableSchema(id=TableId("Shop", "Order"), columns=ITEMS.columns, key=ITEMS.key, identity=Identity.KEY)
    destination = begin(schema, copied=False, preserve_case=True)
    copy(destination, [schema], b"1\ta\tkept\n")
    apply(destination, 1, update(schema, "1", "b", UNCHANGED))
    query = "SELECT TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'Shop' ORDER BY COLUMN_NAME"
    assert [("Order", "id"), ("Order", "name"), ("Order", "size")] == snowflake_database.rows(query)
    assert [("1", "b", "kept")] == snowflake_database.rows('SELECT "id", "name", "size" FROM "Shop"."Order"')


STAGED = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE STARTSWITH(TABLE_NAME, 'STAGED_')"


def test_two_runs_stage_into_tables_of_their_own_and_leave_none(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    one, other = begin(ITEMS), begin(ITEMS)
    apply(one, 1, insert(ITEMS, "1", "of one", None))
    with pytest.raises(WatermarkMoved):
        apply(other, 1, insert(ITEMS, "2", "of the other", None))
    assert 2 == len(snowflake_database.rows(STAGED))
    apply(one, 2, insert(ITEMS, "3", "of one", None))
    one.close()
    other.close()
    assert [] == snowflake_database.rows(STAGED)
    assert [("1", "of one", None), ("3", "of one", None)] == items(snowflake_database)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.SESSION_GONE, DestinationUnavailable),
        (FaultKind.LOCKED, DestinationUnavailable),
        (FaultKind.UNAVAILABLE, DestinationUnavailable),
        (FaultKind.INTERNAL_ERROR, DestinationUnavailable),
        (FaultKind.STAGE_UNREACHABLE, DestinationUnavailable),
        (FaultKind.WAREHOUSE_SUSPENDED, ConfigurationError),
    ],
)
def test_what_snowflake_says_is_an_error_of_ours(
    begin: Open, snowflake_database: SnowflakeDatabase, kind: FaultKind, expected: type[Exception]
) -> None:
    destination, server = begin(ITEMS), snowflake_database.server
    assert server is not None
    server.inject(Fault(kind=kind, matching="^MERGE", count=50))
    with pytest.raises(expected) as raised:
        apply(destination, 1, insert(ITEMS, "1", "a", None))
    assert isinstance(raised.value, RosettaError)
    assert raised.value.broken is None
    server.clear_faults()
    destination.close()
    destination = make(SnowflakeKind(snowflake_database), [ITEMS])
    assert Held(copied={ITEMS.id: BEGINNING}, schemas={ITEMS.id: ITEMS}) == destination.open(IDENTITY)
    destination.close()


def test_a_wrong_key_is_refused_with_what_may_be_wrong(snowflake_database: SnowflakeDatabase) -> None:
    config = {**snowflake_database.config, "account": "another-account"}
    destination = make(SnowflakeKind(SnowflakeDatabase(config=config)), [ITEMS])
    with pytest.raises(ConfigurationError, match=r"390144.*SHA256:.*clock"):
        destination.open(IDENTITY)
    destination.close()


def test_nobody_at_the_address_is_a_matter_of_time(snowflake_database: SnowflakeDatabase) -> None:
    destination = make(SnowflakeKind(SnowflakeDatabase(config={**snowflake_database.config, "port": 1})), [ITEMS])
    with pytest.raises(DestinationUnavailable):
        destination.open(IDENTITY)


def test_a_note_asks_for_no_warehouse_and_is_made_once(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    destination, server = begin(ITEMS), snowflake_database.server
    assert server is not None
    server.forget_statements()
    for lsn in (100, 100, 90, 200):
        destination.note(Lsn(lsn))
    made = [statement.text for statement in server.statements()]
    assert 2 == len(made)
    assert all(text.startswith("COMMENT ON VIEW") for text in made)


def test_each_statement_carries_the_tag_of_its_pipeline(begin: Open, snowflake_database: SnowflakeDatabase) -> None:
    begin(ITEMS)
    server = snowflake_database.server
    assert server is not None
    assert "rosetta shop" in {statement.query_tag for statement in server.statements("COPIES")}


def test_a_large_copy_goes_in_several_files_and_leaves_none_behind(
    begin: Open, snowflake_database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "FILE_SIZE", 1000)
    monkeypatch.setattr("rosetta_dagster.cdc.destination.snowflake.copy_text.PIECE_SIZE", 2000)
    destination, server = begin(NOTES, copied=False), snowflake_database.server
    assert server is not None
    server.forget_statements()
    copy(destination, [NOTES], *(f"note {n:05}\t\\N\n".encode() for n in range(1000)))
    assert len(server.statements("^PUT")) > 5
    assert [(1000, 1000)] == snowflake_database.rows('SELECT COUNT(*), COUNT(DISTINCT TEXT) FROM "PUBLIC".NOTES')
    assert [] == snowflake_database.rows("LIST @ROSETTA.STAGE")


def _pipeline(source: Database, database: SnowflakeDatabase) -> PipelineConfig:
    return PipelineConfig(
        id=1,
        name=source.connection.database,
        engine=Engine.PGOUTPUT,
        source=SourceConfig(name="the_source", connection=source.connection),
        destinations=(DestinationConfig(name="dw", type="SNOWFLAKE", config={**database.config, "flush_seconds": 0.2}),),
        tables=(TableConfig(id=TableId("public", "orders")),),
    )


def test_refused_values_may_be_of_a_column_that_took_the_name(
    source: Database, snowflake_database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run(
        "CREATE TABLE orders (id int PRIMARY KEY, amount int, note text)",
        "INSERT INTO orders SELECT n, n, repeat('x', 1000) FROM generate_series(1, 1000) AS n",
    )
    monkeypatch.setattr("rosetta_dagster.cdc.destination.snowflake.copy_text.PIECE_SIZE", 2000)

    def swap() -> None:
        source.run(
            "BEGIN; ALTER TABLE orders RENAME amount TO a; ALTER TABLE orders RENAME note TO amount;"
            "ALTER TABLE orders RENAME a TO note; COMMIT"
        )

    config = _pipeline(source, snowflake_database)
    with monkeypatch.context() as patched:
        slow_down(patched, swap)
        with pytest.raises(TableAltered):
            failure(config)
    with running(config) as worker:
        _await(
            worker,
            snowflake_database,
            lambda: [(1000, 500500)] == snowflake_database.rows('SELECT COUNT(*), SUM(NOTE) FROM "PUBLIC".ORDERS'),
        )


def test_a_pipeline_copies_and_streams_to_snowflake(source: Database, snowflake_database: SnowflakeDatabase) -> None:
    source.run(
        "CREATE TABLE orders (id int PRIMARY KEY, note text, placed_at timestamptz, amount numeric(10,2))",
        "INSERT INTO orders SELECT n, 'copied ' || n, now(), n FROM generate_series(1, 100) AS n",
    )
    config = _pipeline(source, snowflake_database)

    def arrived(count: int, total: int) -> Callable[[], bool]:
        return lambda: [(count, total)] == snowflake_database.rows('SELECT COUNT(*), SUM(AMOUNT) FROM "PUBLIC".ORDERS')

    with running(config) as worker:
        _await(worker, snowflake_database, arrived(100, 5050))
        source.run("UPDATE orders SET amount = 0 WHERE id <= 50", "DELETE FROM orders WHERE id > 90")
        _await(worker, snowflake_database, arrived(90, sum(range(51, 91))))
    source.run("INSERT INTO orders VALUES (1000, 'while it was paused', now(), 7)")
    with running(config) as worker:
        _await(worker, snowflake_database, arrived(91, sum(range(51, 91)) + 7))
    assert make_destination(config.destinations[0], config).row_counts([TableId("public", "orders")]) == {
        TableId("public", "orders"): 91
    }


def _await(worker: Worker, database: SnowflakeDatabase, condition: Callable[[], bool]) -> None:
    def is_so() -> bool:
        try:
            return condition()
        except DestinationRejected:
            # There is no such table yet.
            return False

    wait_until(worker, is_so)

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineConfig,
    PostgresConnection,
    SourceConfig,
    TableConfig,
)
from rosetta_dagster.cdc.errors import (
    BrokenTable,
    ChangeUndecodable,
    DestinationRejected,
    SchemaChangeRefused,
    SlotInvalid,
    TerminalError,
    resync_remedy,
)
from rosetta_dagster.cdc.stream.broken_tables import BrokenTables
from rosetta_dagster.cdc.table_id import TableId

ORDERS, NOTES = TableId("public", "orders"), TableId("public", "notes")
CONFIG = PipelineConfig(
    id=1,
    name="shop",
    engine=Engine.DEBEZIUM,
    source=SourceConfig(
        name="the_source", connection=PostgresConnection(host="nowhere", database="nothing", username="nobody")
    ),
    destinations=(DestinationConfig(name="replica", type="POSTGRES", config={}),),
    tables=(TableConfig(id=ORDERS), TableConfig(id=NOTES)),
)
UNPRINTABLE = ChangeUndecodable("Debezium cannot print a value.", "Leave it out.")


def outcomes(*errors: TerminalError) -> list[bool]:
    """Whether a run recovers from each of the errors, one after the other."""
    broken = BrokenTables(CONFIG, lambda *_: None, lambda *_: None)
    return [recovers(broken, error) for error in errors]


def recovers(broken: BrokenTables, error: TerminalError) -> bool:
    try:
        broken.recover_from(error)
    except type(error):
        return False
    return True


def of(table: TableId, error: TerminalError) -> TerminalError:
    error.broken = BrokenTable(table, "replica")
    return error


def test_what_no_table_is_to_blame_for_ends_the_run() -> None:
    assert [False] == outcomes(SlotInvalid("It is gone.", "Resync."))


def test_what_debezium_cannot_print_ends_the_run_the_second_time() -> None:
    assert [True, False] == outcomes(UNPRINTABLE, UNPRINTABLE)


def test_what_debezium_cannot_print_is_tried_again_a_while_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    broken = BrokenTables(CONFIG, lambda *_: None, lambda *_: None)
    assert recovers(broken, UNPRINTABLE)
    now[0] = 3600.0
    assert recovers(broken, UNPRINTABLE)
    now[0] = 3605.0
    assert not recovers(broken, UNPRINTABLE)


def test_what_a_destination_rejects_is_tried_again_before_the_table_is_set_aside() -> None:
    error = of(ORDERS, DestinationRejected("It is too long.", "Widen it."))
    other = of(NOTES, DestinationRejected("It is too long.", "Widen it."))
    # The last table is not set aside: the run ends.
    assert [True, True, True, False] == outcomes(error, error, other, other)


@pytest.mark.parametrize("remedy", ["Resync the table.", resync_remedy("shop", ORDERS)], ids=["without it", "with it"])
def test_what_is_recorded_holds_the_statement_that_copies_the_table_again_once(remedy: str) -> None:
    recorded: list[str] = []
    broken = BrokenTables(CONFIG, lambda _, __, reason: recorded.append(reason), lambda *_: None)
    for _ in range(2):
        recovers(broken, of(ORDERS, SchemaChangeRefused("Its columns have changed.", remedy)))
    assert {1} == {reason.count("UPDATE pipeline_tables SET resync = true") for reason in recorded}
    assert recorded

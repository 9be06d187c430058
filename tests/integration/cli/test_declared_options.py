"""The command line takes every declared option of a pipeline and its tables, and names the nearest right value."""

from rosetta_dagster.cdc.config.pipeline import GapPolicy, PartitionDropPolicy, SchemaPolicy, TypePolicy
from rosetta_dagster.cdc.config.slot_policy import SlotPolicy
from rosetta_dagster.cdc.store.database import Store
from tests.support.command_line import Rosetta, assert_one_line
from tests.support.database import Database

PIPELINE = ("pipeline", "add", "strict", "--source", "shop", "--destination", "dw", "--table", "orders")


def test_options_of_a_pipeline_and_its_tables_are_kept(rosetta: Rosetta, shop: Database, store: Store) -> None:
    options = [
        "--on-schema-change",
        "STOP_TABLE",
        "--on-gap",
        "STOP_TABLE",
        "--on-partition-drop",
        "KEEP",
        "--types",
        "TEXT",
        "--on-slot-limit",
        "DROP_SLOT",
    ]
    assert 0 == rosetta(*PIPELINE, *options, "--no-comments").code
    config = store.pipeline("strict")
    assert (SchemaPolicy.STOP_TABLE, GapPolicy.STOP_TABLE, PartitionDropPolicy.KEEP, TypePolicy.TEXT) == (
        config.on_schema_change, config.on_gap, config.on_partition_drop, config.types,
    )  # fmt: skip
    assert SlotPolicy.DROP_SLOT is config.on_slot_limit
    assert [False] == [table.comments for table in config.tables]


def test_a_wrong_value_and_a_table_that_is_given_twice_are_one_line(rosetta: Rosetta, shop: Database) -> None:
    assert_one_line(rosetta(*PIPELINE, "--on-gap", "STOP_TABEL"), "--on-gap: ", "did you mean STOP_TABLE")
    assert_one_line(rosetta(*PIPELINE, "--table", "public.orders"), "Table public.orders is given more than once")


def test_the_help_explains_each_option(rosetta: Rosetta) -> None:
    shown = rosetta("pipeline", "add", "--help").out
    for part in ("--on-gap", "COPY|STOP_TABLE", "--on-partition-drop", "--types", "--no-comments", "--engine"):
        assert part in shown

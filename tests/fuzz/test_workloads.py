"""A few workloads of fixed seeds, so that each is the same every time; `make fuzz` goes on from there."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.copy import spool
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.source import heartbeat, transactions
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.stream import replicate as pipeline
from rosetta_dagster.cdc.table_id import TableId

from .alterations import DropColumn, RenameColumn, may_be_set_aside
from .comparison import difference
from .description import described
from .execution import Tally, execute, execute_twice
from .runs import Failure
from .seeds import drawn
from .stage import Stage
from .tables import Column, Identification, Table
from .types import Type
from .workloads import Workload, surrounded_workloads, workloads


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a workload sets is undone."""
    for module, name in (
        (transactions, "CHANGE_LIMIT"), (pages, "PAGES_PER_RANGE"), (spool, "MEMORY_LIMIT"),
        (source_watch, "INSPECTION_INTERVAL"),
        (pipeline, "COMMIT_INTERVAL"), (pipeline, "DELIVERY_WAIT"), (heartbeat, "BEAT_INTERVAL"),
        (PgoutputStream, "commit"), (DebeziumStream, "commit"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, getattr(module, name))


def workload(seed: int, engine: Engine) -> Workload:
    return drawn(workloads(seed, engine), seed)


def in_the_long_run(*values: object) -> Any:
    """Return the parameters of a test that `make test-long` runs; `make test` runs others of its kind."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("engine", "seed"),
    [
        *((Engine.PGOUTPUT, seed) for seed in range(1, 9)),
        *((Engine.DEBEZIUM, seed) for seed in (4, 18)),
        *(in_the_long_run(Engine.PGOUTPUT, seed) for seed in range(9, 25)),
        *(in_the_long_run(Engine.DEBEZIUM, seed) for seed in (5, 6, 7, 8)),
    ],
)
def test_the_destination_equals_the_source(stage: Stage, tally: Tally, engine: Engine, seed: int) -> None:
    found = workload(seed, engine)
    try:
        execute(stage, found, tally)
    except Failure as failure:
        pytest.fail(f"make fuzz SEED={seed} ENGINE={engine}\n{failure}\n{described(found)}")


@pytest.mark.parametrize(("engine", "seed"), [(Engine.PGOUTPUT, 13), *(in_the_long_run(engine, 7) for engine in Engine)])
def test_what_no_stream_carries_is_noticed(stage: Stage, tally: Tally, engine: Engine, seed: int) -> None:
    found = drawn(surrounded_workloads(seed, engine), seed)
    try:
        execute(stage, found, tally)
    except Failure as failure:
        pytest.fail(f"make fuzz SEED={seed} ENGINE={engine} KINDS=around\n{failure}\n{described(found)}")


@pytest.mark.parametrize("seed", [3, 9, 23, 34, 50, *map(in_the_long_run, (13, 27, 37, 71))])
def test_both_engines_leave_the_same(stage: Stage, tally: Tally, seed: int) -> None:
    # Of types and names that Debezium can read. Each of the two pipelines has its own engine throughout.
    found = workload(seed, Engine.DEBEZIUM)
    try:
        execute_twice(stage, found, tally)
    except Failure as failure:
        pytest.fail(f"{failure}\n{described(found)}")


def test_most_of_what_workloads_do_is_not_refused_by_the_source(tally: Tally) -> None:
    assert tally.refused.total() <= tally.acts.total() // 4


def test_a_seed_is_one_workload() -> None:
    first, again, other = (workload(seed, Engine.PGOUTPUT) for seed in (7, 7, 8))
    assert described(first) == described(again)
    assert described(first) != described(other)


@pytest.mark.parametrize(
    ("changes", "may_be"),
    [
        ([RenameColumn(mark=1, name="b"), RenameColumn(mark=0, name="a"), DropColumn(mark=1)], True),
        ([RenameColumn(mark=1, name="b"), RenameColumn(mark=0, name="a")], False),
        ([RenameColumn(mark=0, name="b"), RenameColumn(mark=1, name="key"), DropColumn(mark=1)], False),
    ],
    ids=["of one that is dropped", "of one that stays", "by the one that is dropped"],
)
def test_a_table_may_be_set_aside_when_a_name_is_taken(changes: list[RenameColumn | DropColumn], *, may_be: bool) -> None:
    kind = Type(sql="text", texts=st.text(), debezium_texts=None)
    table = Table(
        id=TableId("public", "t"),
        columns=(Column(mark=0, name="key", type=kind), Column(mark=1, name="a", type=kind)),
        key=(0,),
        identification=Identification.PRIMARY_KEY,
    )
    assert may_be is may_be_set_aside(table, changes, "holds a column a already, as of one that was dropped.")
    assert not may_be_set_aside(table, changes, "anything else")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE {} SET b = '1.5' WHERE a = 1", r"rows differ \(1 missing, 1 too many\)"),
        ("DELETE FROM {} WHERE a = 1", r"rows differ \(1 missing, 0 too many\)"),
        ("INSERT INTO {} VALUES (2, NULL)", r"rows differ \(0 missing, 1 too many\)"),
        ("ALTER TABLE {} ALTER a TYPE bigint", r"differ.*bigint"),
        ("ALTER TABLE {} DROP COLUMN b", "columns differ"),
    ],
)
def test_a_difference_is_seen(stage: Stage, change: str, told: str) -> None:
    source = stage.source({Engine.PGOUTPUT})
    table, name, both = TableId("compared", "rows"), "compared.rows", (source, stage.destination)
    try:
        for database in both:
            database.run(
                "CREATE SCHEMA compared", f"CREATE TABLE {name} (a int, b numeric)", f"INSERT INTO {name} VALUES (1, 1.50)"
            )
        with source.connect() as left, stage.destination.connect() as right:
            assert difference(left, right, table) is None
            right.execute(change.format(name))
            assert (found := difference(left, right, table)) is not None
        assert re.search(told, found)
    finally:
        for database in both:
            database.run("DROP SCHEMA compared CASCADE")

"""Reconciliation with Snowflake: both sides compute one hash of each type; rows are found, repaired and never doubled."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import connect
from rosetta_dagster.cdc.destination.snowflake.layout import layout_of
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of
from rosetta_dagster.cdc.reconcile.comparison import Difference, Kind
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation, reconcile
from rosetta_dagster.cdc.reconcile.snowflake.columns import ComparedColumns
from rosetta_dagster.cdc.reconcile.snowflake.repair import SnowflakeRepair
from rosetta_dagster.cdc.reconcile.snowflake.sides import SnowflakeSide, SourceSide
from tests.support.changes import insert, update
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, running, wait_until
from tests.support.replica import IDENTITY, ITEMS
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open, items
from tests.support.snowflake_values import apply

#: A column of each form, and values of it with the ends of what Snowflake holds.
TYPES = {
    "n": ("bigint", "(-9223372036854775808), (0), (7)"),
    "amount": ("numeric(12,2)", "('NaN'), (0.5), (-9999999999.99)"),
    "small": ("numeric(3,5)", "(0.00123), (0)"),
    "round": ("numeric(5,-2)", "(12345), (-9999900)"),
    "free": ("numeric", "(1.500), ('NaN'), (1e-20)"),
    "price": ("money", "('-1234567.89'), ('0.05')"),
    "paid": ("boolean", "(true), (false)"),
    "padded": ("character(5)", "('ab'), ('')"),
    "words": ("text", r"(E'x\"\\é\n\t'), (''), ('NULL'), (repeat('ß€😀', 50)), (E'\\N')"),
    "image": ("bytea", r"('\x00ff'), ('')"),
    "day": ("date", "('infinity'), ('0044-03-15 BC'), ('0001-01-01'), ('9999-12-31'), ('10000-01-01')"),
    "clock": ("time", "('24:00'), ('23:59:59.999999'), ('12:00:10.1')"),
    "at": ("timestamp", "('-infinity'), ('0001-01-01'), ('9999-12-31 23:59:59.999999'), ('10000-01-01')"),
    "moment": ("timestamptz", "('infinity'), ('0001-01-01 00:00+00'), ('2024-02-29 12:00:00.5+02')"),
    "id_": ("uuid", "('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')"),
    "net": ("inet", "('10.0.0.1/8')"),
    "pair": ("pair", """('(1,"a""b")'), ('(,)')"""),
    "half": ("real", "(0.1), ('-0'), ('NaN'), ('Infinity')"),
    "ratio": ("double precision", "(0.1::float8 + 0.2), (5e-324), (1::float8/3), (1e20)"),
    "span": ("interval", "('1 mon -1 day 00:00:00.000001'), ('36 hours')"),
    "document": ("jsonb", """('{"ü": "\\u20ac", "a" : [1.0, 1e30, 0.1, null]}'), ('null'), ('"x"')"""),
    "plain": ("json", """('{"a" : 1, "a":2.50}'), ('"\\u0000"'), (' [1 ]')"""),
    "lists": ("int[]", "('{1,NULL,3}'), ('{}'), ('{{1,2},{3,4}}')"),
}


def to_snowflake(source: Database, snowflake: SnowflakeDatabase, *tables: str, **options: Any) -> PipelineConfig:
    row = DestinationConfig(name="dw", type="SNOWFLAKE", config={**snowflake.config, "flush_seconds": 0.2, **options})
    return pipeline(Engine.PGOUTPUT, source, [], *tables).model_copy(update={"destinations": (row,)})


@contextmanager
def streaming(config: PipelineConfig) -> Iterator[None]:
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        yield


def reconciled(config: PipelineConfig, *, repairs: bool = False) -> Reconciliation:
    (found,) = reconcile(config, repairs=repairs)
    assert found.problem is None
    return found


def kinds(found: Reconciliation) -> dict[str, Kind]:
    return {key: difference.kind for difference in found.left for key in difference.key}


#: Rows that are all NULL at the source, one for each column.
EMPTY = {name: str(1000 + number) for number, name in enumerate(TYPES)}


def every_type(source: Database) -> None:
    columns = ", ".join(f'"{name}" {type_}' for name, (type_, _) in TYPES.items())
    source.run("CREATE TYPE pair AS (a integer, b text)", f"CREATE TABLE facts (id int PRIMARY KEY, {columns})")
    for number, (name, (type_, values)) in enumerate(TYPES.items()):
        source.run(
            f'INSERT INTO facts (id, "{name}") SELECT {number * 10} + row_number() OVER (), v::{type_} '
            f"FROM (VALUES {values}) AS given (v)"
        )
    source.run(f"INSERT INTO facts (id) VALUES {', '.join(f'({id_})' for id_ in EMPTY.values())}")


def plant(snowflake: SnowflakeDatabase) -> None:
    """Give each column a value where the source has none."""
    for name, id_ in EMPTY.items():
        is_document = name in ("document", "plain", "lists")
        value = "PARSE_JSON('[7]')" if is_document else f'(SELECT MAX("{name.upper()}") FROM PUBLIC.FACTS)'
        snowflake.rows(f'UPDATE PUBLIC.FACTS SET "{name.upper()}" = {value} WHERE ID = {id_}')


def test_values_of_every_type_are_equal_and_a_change_of_each_is_found_and_repaired(
    source: Database, snowflake_database: SnowflakeDatabase
) -> None:
    every_type(source)
    config = to_snowflake(source, snowflake_database, "facts")
    with streaming(config):
        assert {} == kinds(reconciled(config))
        plant(snowflake_database)
        found = reconciled(config)
        assert dict.fromkeys(EMPTY.values(), Kind.CHANGED) == kinds(found)
        repaired = reconciled(config, repairs=True)
        assert (len(EMPTY), ()) == (repaired.repaired_count, repaired.left)
        # No hash shows this one.
        snowflake_database.rows(f"UPDATE PUBLIC.FACTS SET RATIO = 1.5 WHERE ID = {EMPTY['ratio']}")
        assert {EMPTY["ratio"]: Kind.CHANGED} == kinds(reconciled(config))


def test_rows_that_are_missing_marked_doubled_or_extra_are_repaired(
    source: Database, snowflake_database: SnowflakeDatabase
) -> None:
    source.run(
        "CREATE TABLE odd (moment timestamptz, paid boolean, image bytea, note text, PRIMARY KEY (moment, paid, image))",
        r"INSERT INTO odd SELECT '2024-01-01'::timestamptz + n * interval '1 hour', n % 2 = 0, '\x00ff', 'n' || n"
        " FROM generate_series(1, 9) AS n",
    )
    config = to_snowflake(source, snowflake_database, "odd", deletes="soft")
    with streaming(config):
        for statement in (
            "UPDATE PUBLIC.ODD SET NOTE = 'wrong' WHERE NOTE = 'n1'",
            "DELETE FROM PUBLIC.ODD WHERE NOTE = 'n2'",
            "UPDATE PUBLIC.ODD SET _ROSETTA_DELETED_AT = CURRENT_TIMESTAMP() WHERE NOTE = 'n3'",
            "INSERT INTO PUBLIC.ODD SELECT * FROM PUBLIC.ODD WHERE NOTE = 'n4'",
            "INSERT INTO PUBLIC.ODD SELECT MOMENT, NOT PAID, IMAGE, 'extra', NULL FROM PUBLIC.ODD WHERE NOTE = 'n5'",
        ):
            snowflake_database.rows(statement)
        found = reconciled(config)
        assert found.comparison is not None
        assert found.comparison.differing_bucket_count <= len(found.left)
        assert ["CHANGED", "MISSING", "MISSING", "CHANGED", "EXTRA"] == [each.kind for each in found.left]
        assert (5, ()) == ((repaired := reconciled(config, repairs=True)).repaired_count, repaired.left)
    live = "SELECT NOTE FROM PUBLIC.ODD WHERE _ROSETTA_DELETED_AT IS NULL ORDER BY NOTE"
    assert [(f"n{n}",) for n in range(1, 10)] == snowflake_database.rows(live)
    marked = "SELECT NOTE FROM PUBLIC.ODD WHERE _ROSETTA_DELETED_AT IS NOT NULL"
    assert [("extra",)] == snowflake_database.rows(marked), "a row that the source does not have is marked"


def test_a_key_without_a_common_text_is_named(source: Database, snowflake_database: SnowflakeDatabase) -> None:
    source.run("CREATE TABLE items (ratio float8 PRIMARY KEY)")
    (found,) = reconcile(to_snowflake(source, snowflake_database, "items"))
    assert "the column ratio" in (found.problem or "")


class TestRepair:
    """Repairs of one table, whose stream is the test's own."""

    @pytest.fixture
    def repair(self, source: Database, begin: Open, snowflake_database: SnowflakeDatabase) -> Iterator[SnowflakeRepair]:
        source.run(
            "CREATE TABLE items (id text PRIMARY KEY, name text, size text)",
            "INSERT INTO items VALUES ('1', 'right', NULL)",
        )
        self.stream = begin(ITEMS)
        apply(self.stream, 1, insert(ITEMS, "1", "wrong", None))
        config = SnowflakeDestinationConfig.model_validate(snowflake_database.config)
        opener = partial(connect, config, log_in_of(config), who="the test", tag="test")
        columns = ComparedColumns(ITEMS, layout_of(ITEMS, ITEMS.id, config), config.values)
        with source.connect() as here, opener() as session:
            here.autocommit = True
            sides = SourceSide(here, columns, nullcontext), SnowflakeSide(session, columns)
            yield SnowflakeRepair(*sides, opener, IDENTITY.pipeline)

    def wrong(self, repair: SnowflakeRepair) -> Difference:
        repair.destination.see_now()
        return Difference(key=("1",), kind=Kind.CHANGED, found=repair.destination.rows_of([("1",)])[("1",)])

    def test_a_row_that_the_stream_has_written_since_stays(
        self, repair: SnowflakeRepair, snowflake_database: SnowflakeDatabase
    ) -> None:
        stale = self.wrong(repair)
        apply(self.stream, 2, update(ITEMS, "1", "newer", None))
        repair.part([stale])
        assert [("1", "newer", None)] == items(snowflake_database)
        repair.part([self.wrong(repair)])
        assert [("1", "right", None)] == items(snowflake_database)
        repair.destination.see_now()
        assert repair.source.buckets(16) == repair.destination.buckets(16)

    def test_the_stream_waits_while_rows_are_repaired(
        self, repair: SnowflakeRepair, snowflake_database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads, replace = ThreadPoolExecutor(1), SnowflakeRepair._replace
        streamed: list[Future[None]] = []

        def while_the_stream_writes(*arguments: Any) -> None:
            streamed.append(threads.submit(apply, self.stream, 2, update(ITEMS, "1", "later", None)))
            assert not wait(streamed, 0.5).done, "the stream has written in spite of the fence"
            replace(*arguments)
            assert not streamed[0].done()

        monkeypatch.setattr(SnowflakeRepair, "_replace", while_the_stream_writes)
        with threads:
            repair.part([self.wrong(repair)])
        streamed[0].result()
        assert [("1", "later", None)] == items(snowflake_database)

"""Reconciliation: rows are compared and repaired while they are written; rows in flight and of children are left alone."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import ConfigurationError, NotCaughtUp
from rosetta_dagster.cdc.reconcile import comparison, progress, repair
from rosetta_dagster.cdc.reconcile.comparison import Difference, Kind
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation, reconcile
from rosetta_dagster.cdc.reconcile.side import Side
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal

#: Rows that the writer changes again and again.
HOT = range(1, 6)


@contextmanager
def written_to(source: Database, row_count: int) -> Iterator[list[int]]:
    """Somebody who writes the table all the time: new rows, gone rows, and a few rows again and again."""
    stopping, transactions, dice = threading.Event(), [0], random.Random(7)

    def write() -> None:
        with psycopg.connect(source.url, autocommit=True) as connection:
            while not stopping.wait(0.002):
                transactions[0] += 1
                connection.execute("UPDATE items SET note = %s WHERE id = %s", [str(transactions[0]), dice.choice(HOT)])
                row = dice.randrange(1000, row_count // 2)
                connection.execute("UPDATE items SET note = 'written' WHERE id = %s AND note LIKE 'note%%'", [row])
                connection.execute("INSERT INTO items VALUES (%s, 'new', 1)", [row_count * 2 + transactions[0]])
                connection.execute("DELETE FROM items WHERE id = %s", [row_count * 2 + transactions[0] - 50])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield transactions
    finally:
        stopping.set()
        thread.join()


def one(config: PipelineConfig, *, repairs: bool = False) -> Reconciliation:
    (found,) = reconcile(config, repairs=repairs)
    assert found.problem is None
    return found


@pytest.mark.parametrize("row_count", [200_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_three_differences_in_many_rows_are_repaired_while_rows_are_written(
    source: Database, destination: Database, row_count: int
) -> None:
    changed, missing, extra = row_count * 6 // 10 + 1, row_count * 7 // 10 + 2, row_count + 3
    source.run(
        "CREATE TABLE items (id bigint PRIMARY KEY, note text, price numeric(12, 2))",
        f"INSERT INTO items SELECT n, 'note ' || n, n / 7.0 FROM generate_series(1, {row_count}) AS n",
    )
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        destination.run(
            f"UPDATE items SET price = price + 0.01 WHERE id = {changed}",
            f"DELETE FROM items WHERE id = {missing}",
            f"INSERT INTO items VALUES ({extra}, 'planted', 1)",
            "CREATE TABLE touched (id bigint)",
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO public.touched VALUES (coalesce(NEW.id, OLD.id)); RETURN NULL; END $$",
        )
        with written_to(source, row_count) as transactions:
            before = transactions[0]
            found = one(config)
            assert transactions[0] > before + 100
            assert found.comparison is not None
            assert {
                (str(extra),): Kind.EXTRA, (str(changed),): Kind.CHANGED, (str(missing),): Kind.MISSING,
            } == {each.key: each.kind for each in found.left}  # fmt: skip
            assert {key for (key,) in found.comparison.in_flight} <= {str(hot) for hot in HOT}
            assert found.comparison.bucket_count > row_count // 200

            destination.run(
                "CREATE TRIGGER touch AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW"
                " WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION touch()"
            )
            repaired = one(config, repairs=True)
            assert (3, ()) == (repaired.repaired_count, repaired.left)
        wait_until_equal(worker, source, destination, "items")
        # Besides what the stream wrote, the repair has written these rows only.
        planted = f"id IN ({changed}, {missing}, {extra})"
        quiet = f"id BETWEEN {row_count // 2} AND {row_count + 10}"
        assert [(3,)] == destination.rows(f"SELECT count(DISTINCT id) FROM touched WHERE {planted}")
        assert [] == destination.rows(f"SELECT DISTINCT id FROM touched WHERE {quiet} AND NOT {planted}")


def test_keys_of_several_columns_and_odd_values_are_distinguished(source: Database, destination: Database) -> None:
    source.run(
        'CREATE TABLE "Odd ""rows" (name text, at timestamptz, value text, "100 %s" int, PRIMARY KEY (at, name))',
        """INSERT INTO "Odd ""rows" SELECT E'a,"{}\\\\''é' || n, '2024-01-01'::timestamptz + n * interval '1 hour', NULL, n
           FROM generate_series(1, 50) AS n""",
        "CREATE TABLE keyless (a int)",
    )
    config = pipeline(Engine.PGOUTPUT, source, [destination], TableId("public", 'Odd "rows'), "keyless")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        destination.run("""UPDATE "Odd ""rows" SET value = '' WHERE name LIKE '%7'""")
        odd, keyless = reconcile(config, repairs=True)
        assert (5, ()) == (odd.repaired_count, odd.left)
        assert "no key" in (keyless.problem or "")
        wait_until_equal(worker, source, destination, TableId("public", 'Odd "rows'))
        assert [] == destination.rows("""SELECT FROM "Odd ""rows" WHERE value IS NOT NULL""")


def test_a_row_that_is_changed_all_the_time_is_in_flight_and_not_wrong(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ROUNDS", 3)
    source.run(
        "CREATE TABLE items (id bigint PRIMARY KEY, note text, price numeric)",
        "INSERT INTO items SELECT n, 'x', 1 FROM generate_series(1, 10) AS n",
    )
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        with written_to(source, 200_000):
            found = one(config)
        assert () == found.left
        assert found.comparison is not None
        assert found.comparison.in_flight


def test_a_pipeline_that_does_not_run_cannot_be_compared(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "CATCH_UP_TIMEOUT", 0.3)
    source.run("CREATE TABLE items (id int PRIMARY KEY)")
    destination.run("CREATE TABLE items (id int PRIMARY KEY)")
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    with pytest.raises(NotCaughtUp, match="cannot be compared"):
        list(reconcile(config))
    with pytest.raises(ConfigurationError, match=r"no table public\.absent"):
        list(reconcile(config, tables=[TableId("public", "absent")]))


def test_a_row_that_the_stream_has_written_since_is_not_replaced(source: Database, destination: Database) -> None:
    for database, value in ((source, "older"), (destination, "newer, by the stream")):
        database.run(
            "CREATE TABLE items (id int PRIMARY KEY, value text)",
            f"INSERT INTO items VALUES (1, '{value}'), (2, '{value}')",
        )
    with source.connect() as here, destination.connect() as there:
        schema = read_schemas(here, [TableId("public", "items")])[TableId("public", "items")]
        sides = [Side(each, schema.id, schema, nullcontext) for each in (here, there)]
        present = sides[1].rows_of([("2",)])[("2",)]
        stale = Difference(key=("1",), kind=Kind.CHANGED, found="the hash of what was found wrong")
        gone = Difference(key=("1",), kind=Kind.MISSING, found=None)
        current = Difference(key=("2",), kind=Kind.CHANGED, found=present)
        repair._repair_part(sides[0], sides[1], [stale, current])
        repair._repair_part(sides[0], sides[1], [gone])
    assert [(1, "newer, by the stream"), (2, "older")] == destination.rows("SELECT * FROM items ORDER BY id")


def test_a_repair_gives_way_to_the_stream(source: Database, destination: Database) -> None:
    for database in (source, destination):
        database.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
    with source.connect() as here, destination.connect() as there, destination.connect() as stream:
        schema = read_schemas(here, [TableId("public", "items")])[TableId("public", "items")]
        sides = [Side(each, schema.id, schema, nullcontext) for each in (here, there)]
        wrong = Difference(key=("1",), kind=Kind.EXTRA, found=sides[1].rows_of([("1",)])[("1",)])
        with stream.transaction():
            stream.execute("SELECT FROM items FOR UPDATE")
            repair._repair_part(sides[0], sides[1], [wrong])
        assert [(1,)] == destination.rows("SELECT * FROM items")
        repair._repair_part(sides[0], sides[1], [wrong])


#: The table with rows 1 to 3 of its own; where it is partitioned, its own rows are those of the partition.
INHERITED = (
    "CREATE TABLE base (id int PRIMARY KEY, v text)",
    "CREATE TABLE child () INHERITS (base)",
    "INSERT INTO base SELECT n, 'own' FROM generate_series(1, 3) AS n",
    "INSERT INTO child SELECT n, 'of the child of ' || current_database() FROM generate_series(2, 12) AS n",
)
PARTITIONED = (
    "CREATE TABLE base (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
    "CREATE TABLE part PARTITION OF base DEFAULT",
    "INSERT INTO base SELECT n, 'own' FROM generate_series(1, 3) AS n",
)


@pytest.mark.parametrize("at_destination", [INHERITED, PARTITIONED], ids=["child", "partition"])
@pytest.mark.parametrize("at_source", [INHERITED, PARTITIONED], ids=["child", "partition"])
def test_rows_of_partitions_are_the_tables_own_those_of_children_are_not(
    source: Database, destination: Database, at_source: tuple[str, ...], at_destination: tuple[str, ...]
) -> None:
    source.run(*at_source)
    destination.run(*at_destination)
    own = "base" if at_destination is PARTITIONED else "ONLY base"
    with source.connect() as here, destination.connect() as there:
        schema = read_schemas(here, [TableId("public", "base")])[TableId("public", "base")]
        first, second = (Side(each, schema.id, schema, nullcontext) for each in (here, there))

        def differences() -> list[tuple[tuple[str, ...], Kind]]:
            return [(each.key, each.kind) for each in comparison.compare(first, second, lambda: Lsn(0)).differences]

        assert [] == differences()
        destination.run(f"UPDATE {own} SET v = 'wrong' WHERE id = 2", f"DELETE FROM {own} WHERE id = 3")
        assert [(("2",), Kind.CHANGED), (("3",), Kind.MISSING)] == differences()
        found = comparison.compare(first, second, lambda: Lsn(0))
        assert 3 == found.row_count
        assert () == repair.repair(first, second, found.differences, lambda: Lsn(0))
        assert [] == differences()
    assert [(1, "own"), (2, "own"), (3, "own")] == destination.rows(f"SELECT * FROM {own} ORDER BY id")
    if at_destination is INHERITED:
        assert [(11,)] == destination.rows("SELECT count(*) FROM child")

"""One table that cannot be replicated is left out with its reason; the others go on, and it joins them once it is fit."""

from collections.abc import Callable

import psycopg
import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import GapPolicy, PartitionDropPolicy, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import TableNotOurs
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source import slots
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import failure, is_streaming, pipeline, replicate, running, wait_until, wait_until_equal

both_engines = pytest.mark.parametrize("engine", list(Engine))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)
    monkeypatch.setattr(slots, "WAIT_REPORT_INTERVAL", 0.2)


@pytest.fixture
def shop(source: Database) -> Database:
    source.run("CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (1, 'a')")
    return source


def reason(worker: Worker, table: str) -> str:
    state, error = worker.report().states.get(TableId("public", table), (None, None))
    return f"{state}: {error}"


def is_in_state(worker: Worker, table: str, state: TableState) -> Callable[[], bool]:
    return lambda: reason(worker, table).startswith(state)


REFUSED = {
    "mistyped": (
        ["CREATE TABLE mistyped_name (id int)"],
        "does not exist at the source. Similar names: public.mistyped_name",
    ),
    "unlogged": (["CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)"], "is unlogged"),
    "a_view": (["CREATE VIEW a_view AS SELECT 1 AS id"], "is not a table"),
    "leaf": (
        ["CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id)", "CREATE TABLE leaf PARTITION OF root DEFAULT"],
        "is a partition of public.root",
    ),
    "afar": (
        [
            "CREATE FOREIGN DATA WRAPPER elsewhere",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere",
            "CREATE TABLE afar (id int) PARTITION BY LIST (id)",
            "CREATE FOREIGN TABLE afar_1 PARTITION OF afar DEFAULT SERVER elsewhere",
        ],
        "Partition public.afar_1 of table public.afar is a foreign table",
    ),
}


@both_engines
def test_tables_that_cannot_be_replicated_are_left_out_and_the_others_go_on(
    engine: Engine, shop: Database, destination: Database
) -> None:
    for create, _ in REFUSED.values():
        shop.run(*create)
    config = pipeline(engine, shop, [destination], "items", "root", *REFUSED)
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items", "root")
        wait_until(worker, lambda: is_streaming(worker))
        for table, (_, message) in REFUSED.items():
            assert message in reason(worker, table)
        shop.run("INSERT INTO items VALUES (2, 'b')", "INSERT INTO root VALUES (7)")
        wait_until_equal(worker, shop, destination, "items", "root")
        shop.run("ALTER TABLE unlogged SET LOGGED", "INSERT INTO unlogged VALUES (1)")
        wait_until_equal(worker, shop, destination, "unlogged")


@both_engines
def test_a_table_that_was_missing_joins_and_one_that_is_dropped_leaves_alone(
    engine: Engine, shop: Database, destination: Database
) -> None:
    config = pipeline(engine, shop, [destination], "items", "later")
    with running(config) as worker:
        wait_until(worker, is_in_state(worker, "later", TableState.ERROR))
        shop.run("CREATE TABLE later (id int PRIMARY KEY)", "INSERT INTO later VALUES (1)")
        wait_until_equal(worker, shop, destination, "items", "later")
        shop.run("DROP TABLE items", "INSERT INTO later VALUES (2)")
        wait_until(worker, is_in_state(worker, "items", TableState.ERROR))
        wait_until_equal(worker, shop, destination, "later")
        shop.run("CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (9, 'new')")
        wait_until_equal(worker, shop, destination, "items", "later")


@both_engines
def test_with_the_policy_to_stop_a_gap_sets_the_table_aside(engine: Engine, shop: Database, destination: Database) -> None:
    shop.run("CREATE TABLE other (id int PRIMARY KEY)")
    config = pipeline(engine, shop, [destination], "items", "other").model_copy(update={"on_gap": GapPolicy.STOP_TABLE})
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items", "other")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("DROP TABLE items", "CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (5, 'x')")
        wait_until(worker, is_in_state(worker, "items", TableState.ERROR))
        assert "UPDATE pipeline_tables SET resync = true WHERE table_schema = 'public'" in reason(worker, "items")
        shop.run("INSERT INTO other VALUES (1)")
        wait_until_equal(worker, shop, destination, "other")
    assert [(1, "a")] == destination.rows("SELECT * FROM items")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        assert "another table has its name" in reason(worker, "items")


def test_rows_of_partitions_that_went_stay_where_that_is_wanted(shop: Database, destination: Database) -> None:
    shop.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "INSERT INTO p SELECT generate_series(0, 19)",
    )
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "p")
    config = config.model_copy(update={"on_partition_drop": PartitionDropPolicy.KEEP})
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "p")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("DROP TABLE p1", "CREATE TABLE p3 (id int PRIMARY KEY)", "INSERT INTO p3 VALUES (25)")
        shop.run("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (20) TO (30)", "INSERT INTO p VALUES (26)")
        wait_until(worker, lambda: destination.rows("SELECT count(*) FROM p WHERE id > 19") == [(2,)])
    assert [(22,)] == destination.rows("SELECT count(*) FROM p")


def test_only_the_partitions_that_changed_are_copied(shop: Database, destination: Database) -> None:
    shop.run(
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (2000)",
        "INSERT INTO p SELECT n, 'old' FROM generate_series(0, 1999) AS n",
    )
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "p")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "p")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("TRUNCATE p1", "INSERT INTO p VALUES (5, 'new')", "UPDATE p SET v = 'changed' WHERE id > 1990")
        wait_until_equal(worker, shop, destination, "p")
        wait_until(worker, is_in_state(worker, "p", TableState.STREAMING))
        assert 2000 <= worker.report().tables[TableId("public", "p")].copied < 2010


@both_engines
def test_a_partitioned_table_without_partitions_is_the_empty_table_that_it_is(
    engine: Engine, shop: Database, destination: Database
) -> None:
    shop.run("CREATE TABLE ord (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d)")
    config = pipeline(engine, shop, [destination], "items", "ord")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items", "ord")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("CREATE TABLE ord_1 PARTITION OF ord DEFAULT", "INSERT INTO ord VALUES (1, '2026-01-01')")
        wait_until_equal(worker, shop, destination, "items", "ord")


@both_engines
def test_nothing_that_is_published_keeps_the_application_from_its_updates(
    engine: Engine, shop: Database, destination: Database
) -> None:
    shop.run(
        "CREATE TABLE parent (id int PRIMARY KEY, v text)",
        "CREATE TABLE child (c int) INHERITS (parent)",
        "CREATE TABLE keyless (v text)",
        "CREATE TABLE leaving (v text)",
        "ALTER TABLE leaving REPLICA IDENTITY FULL",
        "INSERT INTO child VALUES (1, 'a', 1)",
        "INSERT INTO keyless VALUES ('a')",
    )
    config = pipeline(engine, shop, [destination], "parent", "keyless", "leaving")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "keyless", "leaving")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run(
            "UPDATE parent SET v = 'b'",
            "UPDATE keyless SET v = 'b'",
            "DELETE FROM keyless",
            "INSERT INTO keyless VALUES ('c')",
        )
        wait_until_equal(worker, shop, destination, "keyless")
    assert [] == destination.rows("SELECT * FROM parent")
    with running(pipeline(engine, shop, [destination], "parent")) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("ALTER TABLE leaving REPLICA IDENTITY NOTHING", "UPDATE leaving SET v = 'b'", "UPDATE keyless SET v = 'd'")


def test_partitions_that_come_later_can_be_updated_at_once(shop: Database, destination: Database) -> None:
    """A later partition has the root's primary key, but not the root's `REPLICA IDENTITY FULL`."""
    shop.run(
        "CREATE TABLE p (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "ALTER TABLE p REPLICA IDENTITY FULL",
        "ALTER TABLE p1 REPLICA IDENTITY FULL",
        "INSERT INTO p VALUES (1, 'a')",
    )
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "items", "p")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items", "p")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)", "INSERT INTO p VALUES (11, 'b')")
        shop.run("UPDATE p SET v = 'changed'")
        wait_until_equal(worker, shop, destination, "items", "p")


def test_a_copy_that_waits_for_an_open_transaction_says_for_whom(shop: Database, destination: Database) -> None:
    with psycopg.connect(shop.url) as other:
        other.execute("SET application_name = 'nightly job'")
        other.execute("INSERT INTO items VALUES (50, 'open')")
        with running(pipeline(Engine.PGOUTPUT, shop, [destination], "items")) as worker:
            wait_until(worker, lambda: "nightly job" in reason(worker, "items"))
            assert f"PID {other.info.backend_pid} of role postgres" in reason(worker, "items")
            other.rollback()
            wait_until_equal(worker, shop, destination, "items")


@both_engines
def test_a_publication_that_was_dropped_while_it_streams_is_a_gap(
    engine: Engine, shop: Database, destination: Database
) -> None:
    config = pipeline(engine, shop, [destination], "items")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run(f"DROP PUBLICATION {config.publication_name}", "INSERT INTO items VALUES (2, 'unseen')")
        wait_until_equal(worker, shop, destination, "items")
    shop.run(f"DROP PUBLICATION {config.publication_name}", "INSERT INTO items VALUES (3, 'unseen')")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items")


def test_a_publication_dropped_before_debezium_reads_it_ends_no_run(
    shop: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that only Debezium notices.
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 1000)
    config = pipeline(Engine.DEBEZIUM, shop, [destination], "items")
    replicate(config, shop, destination)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        shop.run(f"DROP PUBLICATION {config.publication_name}", "INSERT INTO items VALUES (2, 'unseen')")
        wait_until_equal(worker, shop, destination, "items")


def test_two_pipelines_never_write_one_table(shop: Database, destination: Database) -> None:
    shop.run("CREATE TABLE empty (id int PRIMARY KEY)")
    first = pipeline(Engine.PGOUTPUT, shop, [destination], "empty")
    other = first.model_copy(update={"name": f"{first.name}_other"})
    with running(first) as worker:
        wait_until_equal(worker, shop, destination, "empty")
        wait_until(worker, lambda: is_streaming(worker))
    with pytest.raises(TableNotOurs, match=rf"is written by pipeline {first.name}\. Give the table another target"):
        failure(other)
    # A pipeline that is to start over leaves the table to others.
    for row in first.destinations:
        make_destination(row, first).forget()
    with running(other) as worker:
        wait_until_equal(worker, shop, destination, "empty")


def test_a_table_whose_name_another_one_had_for_a_while_is_copied_once(shop: Database, destination: Database) -> None:
    shop.run(
        "CREATE TABLE spare (id int PRIMARY KEY, v text)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "CREATE PUBLICATION mine FOR TABLE items, spare, other",
    )
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "items", "other")
    config = config.model_copy(update={"own_publication_name": "mine"})
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items", "other")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run(
            "ALTER TABLE items RENAME TO y", "ALTER TABLE spare RENAME TO items", "INSERT INTO items VALUES (9, 'spare')",
            "ALTER TABLE items RENAME TO spare", "ALTER TABLE y RENAME TO items", "INSERT INTO other VALUES (1)",
        )  # fmt: skip
        wait_until_equal(worker, shop, destination, "items", "other")
        shop.run("INSERT INTO items VALUES (2, 'b')", "INSERT INTO other VALUES (2)")
        wait_until_equal(worker, shop, destination, "items", "other")


def test_a_table_that_loses_its_key_while_it_streams_can_be_updated_again_soon(
    shop: Database, destination: Database
) -> None:
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "items")
    with running(config) as worker:
        wait_until_equal(worker, shop, destination, "items")
        wait_until(worker, lambda: is_streaming(worker))
        shop.run("ALTER TABLE items DROP CONSTRAINT items_pkey")

        def is_updated() -> bool:
            try:
                shop.run("UPDATE items SET v = 'c'")
            except psycopg.errors.ObjectNotInPrerequisiteState:
                return False
            return True

        wait_until(worker, is_updated)


def test_a_partition_that_the_role_may_not_read_stops_its_table_alone(shop: Database, destination: Database) -> None:
    database = shop.connection.database
    shop.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "CREATE PUBLICATION mine FOR TABLE items, p WITH (publish_via_partition_root = true)",
        f"CREATE ROLE reader_{database} LOGIN REPLICATION PASSWORD 'secret-of-a-reader'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{database}",
    )
    reader = {"username": f"reader_{database}", "password": SecretStr("secret-of-a-reader")}
    config = pipeline(Engine.PGOUTPUT, shop, [destination], "items", "p")
    source = config.source.model_copy(update={"connection": shop.connection.model_copy(update=reader)})
    config = config.model_copy(update={"own_publication_name": "mine", "source": source})
    try:
        with running(config) as worker:
            wait_until_equal(worker, shop, destination, "items", "p")
            wait_until(worker, lambda: is_streaming(worker))
            shop.run("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)", "INSERT INTO p VALUES (15)")
            wait_until(worker, is_in_state(worker, "p", TableState.ERROR))
            assert "GRANT SELECT" in reason(worker, "p")
            shop.run("INSERT INTO items VALUES (2, 'b')")
            wait_until_equal(worker, shop, destination, "items")
    finally:
        shop.run(f"DROP OWNED BY reader_{database}", f"DROP ROLE reader_{database}")

"""Destination tables with columns of their own kind: identities, generated columns, very many columns, triggers."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from tests.support.database import Database
from tests.support.every_value import BIG
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal


def follow(config: PipelineConfig, source: Database, destination: Database, *batches: str) -> None:
    """Copy, then apply each batch of statements by itself."""
    tables = [table.id for table in config.tables]
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
        for batch in batches:
            source.run(batch)
            wait_until_equal(worker, source, destination, *tables)


_IDENTITY = "(id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, body text, v int)"


@pytest.mark.parametrize("size", [1, 3000], ids=["few rows", "many rows"])
def test_an_always_generated_identity_that_is_no_key_gets_the_values_of_the_source(
    source: Database, destination: Database, size: int
) -> None:
    for database in (source, destination):
        database.run(f"CREATE TABLE t {_IDENTITY}")
    source.run("INSERT INTO t (id, v) SELECT n, 0 FROM generate_series(1, 10) AS n")
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        f"INSERT INTO t (id, v) SELECT n, 0 FROM generate_series(11, 10 + {size}) AS n",
        f"UPDATE t SET v = 1 WHERE id <= 10 + {size}",
        # Each row gets another value from the sequence.
        f"UPDATE t SET n = DEFAULT WHERE id > 5 AND id <= 10 + {size}",
        f"UPDATE t SET body = {BIG.format('id')} WHERE id < 4",
        # The large value is not sent again.
        "UPDATE t SET n = DEFAULT, v = 2 WHERE id < 4",
        "UPDATE t SET v = 3 WHERE id < 4",
        "UPDATE t SET id = -id, n = DEFAULT WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
    )  # fmt: skip


def test_a_generated_identity_of_a_keyless_table_gets_the_values_of_the_source(
    source: Database, destination: Database
) -> None:
    for database in (source, destination):
        database.run("CREATE TABLE t (n int GENERATED ALWAYS AS IDENTITY, v int)", "ALTER TABLE t REPLICA IDENTITY FULL")
    source.run("INSERT INTO t (v) SELECT 0 FROM generate_series(1, 10)")
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        "INSERT INTO t (v) VALUES (1), (1)", "UPDATE t SET v = 2 WHERE v = 1", "UPDATE t SET n = DEFAULT",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 3000], ids=["few rows", "many rows"])
def test_a_column_that_only_the_destination_generates_is_left_to_it(
    source: Database, destination: Database, size: int
) -> None:
    query = "SELECT id, v, twice, md5(body) FROM t ORDER BY id"
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int, twice int, body text)")
    destination.run("CREATE TABLE t (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (2 * v) STORED, body text)")
    source.run("INSERT INTO t SELECT n, n, 2 * n FROM generate_series(1, 10) AS n")
    with running(pipeline(Engine.PGOUTPUT, source, [destination], "t")) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        for batch in (
            f"INSERT INTO t SELECT n, n, 2 * n FROM generate_series(11, 10 + {size}) AS n",
            "UPDATE t SET v = v + 1, twice = 2 * v + 2",
            f"UPDATE t SET body = {BIG.format('id')} WHERE id < 4",
            "UPDATE t SET v = v + 1, twice = 2 * v + 2 WHERE id < 4",
            "UPDATE t SET id = -id, v = 0, twice = 0 WHERE id = 2",
        ):
            source.run(batch)
            wait_until(worker, lambda: source.rows(query) == destination.rows(query))


@pytest.mark.parametrize("count", [1598, 1600])
def test_a_table_with_as_many_columns_as_postgresql_allows_is_replicated(
    source: Database, destination: Database, count: int
) -> None:
    columns = ", ".join(f"c{n} int" for n in range(2, count))
    source.run(
        f"CREATE TABLE t (id int PRIMARY KEY, {columns}, body text)", f"INSERT INTO t (id, body) SELECT 1, {BIG.format('1')}"
    )
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        "INSERT INTO t (id, c2, body) SELECT n, n, E'a,b\\\\ {\"c\"}' FROM generate_series(2, 1100) AS n",
        "INSERT INTO t (id, body) VALUES (9001, ''), (9002, 'NULL'), (9003, NULL), (9004, E'\\t\\n\\r')",
        "UPDATE t SET c3 = 7 WHERE id < 3",
        "DELETE FROM t WHERE id > 600 AND id < 3000",
    )  # fmt: skip


def test_rows_as_large_as_a_page_holds_are_replicated(source: Database, destination: Database) -> None:
    # Without a key every change is staged, however few there are.
    names = [f"c{n}" for n in range(1010)]
    source.run(f"CREATE TABLE t (id bigint, {', '.join(f'{name} bigint' for name in names)})")
    filled = f"INSERT INTO t SELECT n, {', '.join('n' for _ in names)} FROM generate_series({{}}, {{}}) AS n"
    source.run("ALTER TABLE t REPLICA IDENTITY FULL", filled.format(1, 2))
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        filled.format(3, 20), "UPDATE t SET c5 = 7 WHERE id < 9", "DELETE FROM t WHERE id BETWEEN 6 AND 7",
    )  # fmt: skip


def test_wide_rows_without_a_key_are_replicated(source: Database, destination: Database) -> None:
    columns = ", ".join(f"c{n} int" for n in range(1599))
    source.run(
        f"CREATE TABLE t (id int, {columns})", "ALTER TABLE t REPLICA IDENTITY FULL", "INSERT INTO t (id) VALUES (1), (1)"
    )
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        "INSERT INTO t (id, c5) VALUES (2, 5), (2, 5), (3, NULL)",
        "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t LIMIT 1)",
        "UPDATE t SET c7 = 1 WHERE id = 2",
    )  # fmt: skip


def test_triggers_of_the_destination_do_not_change_replicated_rows(source: Database, destination: Database) -> None:
    for database in (source, destination):
        database.run("CREATE TABLE t (id int PRIMARY KEY, v int, changed_by text)")
    destination.run(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changed_by := ''trigger''; RETURN NEW; END'",
        "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()",
    )
    source.run("INSERT INTO t VALUES (1, 1, 'somebody')")
    follow(
        pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination,
        "INSERT INTO t VALUES (2, 2, 'else')", "UPDATE t SET v = 3",
    )  # fmt: skip


def test_null_is_taken_where_the_source_does_not_forbid_it_for_certain(source: Database, destination: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, NULL)")
    # As pg_dump writes what is NOT VALID at the source, which every new row has to obey.
    destination.run("CREATE TABLE t (id int PRIMARY KEY, v int)", "ALTER TABLE t ADD CONSTRAINT c NOT NULL v NOT VALID")
    follow(pipeline(Engine.PGOUTPUT, source, [destination], "t"), source, destination, "INSERT INTO t VALUES (2, NULL)")

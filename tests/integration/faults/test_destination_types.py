"""Types that the source's users have defined: a destination creates those that are missing, or holds their text."""

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TypePolicy
from rosetta_dagster.cdc.source.connections import connect
from rosetta_dagster.cdc.source.type_definitions import read_type_definitions
from tests.support.database import Database
from tests.support.engines import debezium_in_the_long_run, only_pgoutput
from tests.support.pipelines import (
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)

TYPES = (
    "CREATE SCHEMA kinds",
    "CREATE TYPE kinds.\"Mood\" AS ENUM ('sad', 'it''s ok', 'happy')",
    "CREATE DOMAIN kinds.feeling AS kinds.\"Mood\" NOT NULL CHECK (VALUE <> 'sad')",
    "CREATE DOMAIN short AS varchar(5)",
    'CREATE TYPE pair AS ("left" kinds."Mood", "right side" numeric(5,2)[])',
    "CREATE TYPE nested AS (p pair, all_pairs pair[], s short)",
    "CREATE DOMAIN nested_domain AS nested",
)


COLUMNS = """
    id int PRIMARY KEY, mood kinds."Mood", feeling kinds.feeling, moods kinds."Mood"[], feelings kinds.feeling[],
    short short, pair pair, pairs pair[], nested nested, nested_domain nested_domain
"""

ROW = (
    "'happy', 'it''s ok', '{sad,NULL,happy}', '{happy}', 'abc', ROW('sad', '{1.5,NULL}'),"
    " ARRAY[ROW('happy', NULL)]::pair[], ROW(ROW('sad', '{2}'), ARRAY[ROW('sad', NULL)]::pair[], 'x')::nested,"
    " ROW(NULL, NULL, 'y')::nested"
)


# Debezium prints neither composite types nor arrays of domains, and does not start beside a domain over an enum.
@only_pgoutput
def test_types_that_are_missing_are_created(engine: Engine, source: Database, destination: Database) -> None:
    source.run(*TYPES, f"CREATE TABLE t ({COLUMNS})", f"INSERT INTO t VALUES (1, {ROW})")
    with running(pipeline(engine, source, [destination], "t")) as worker:
        wait_until_equal(worker, source, destination, "t")
        wait_until(worker, lambda: is_streaming(worker))
        source.run(f"INSERT INTO t VALUES (2, {ROW})", "UPDATE t SET mood = 'sad' WHERE id = 1")
        wait_until_equal(worker, source, destination, "t")
    columns = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"
    )
    assert source.rows(columns) == destination.rows(columns)


def test_labels_that_come_later_are_followed_before_the_rows_that_use_them(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run("CREATE TYPE mood AS ENUM ('b', 'd')", "CREATE DOMAIN short AS varchar(5)")
    source.run("CREATE TABLE t (id int PRIMARY KEY, mood mood, moods mood[], short short DEFAULT 'x')")
    labels = "SELECT enumlabel FROM pg_enum ORDER BY enumsortorder"
    with running(pipeline(engine, source, [destination], "t")) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        for number, addition in enumerate(("'a' BEFORE 'b'", "'c' BEFORE 'd'", "'e'")):
            label = addition[:3]
            source.run(f"ALTER TYPE mood ADD VALUE {addition}")
            source.run(
                f"INSERT INTO t VALUES ({2 * number}, {label}, NULL), ({2 * number + 1}, 'b', ARRAY[{label}]::mood[])"
            )
            wait_until_equal(worker, source, destination, "t")
            assert 0 == sum(state[1] is not None for state in worker.report().states.values())
    assert source.rows(labels) == destination.rows(labels)
    source.run("ALTER TYPE mood ADD VALUE 'f'")
    source.run("INSERT INTO t SELECT n, 'f' FROM generate_series(100, 5000) AS n")
    replicate(pipeline(engine, source, [destination], "t"), source, destination)


@debezium_in_the_long_run
def test_a_type_that_comes_with_a_column_is_created(engine: Engine, source: Database, destination: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY)")
    with running(pipeline(engine, source, [destination], "t")) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("CREATE TYPE mood AS ENUM ('a')", "ALTER TABLE t ADD COLUMN mood mood", "INSERT INTO t VALUES (1, 'a')")
        wait_until_equal(worker, source, destination, "t")


def with_text(config: PipelineConfig) -> PipelineConfig:
    return config.model_copy(update={"types": TypePolicy.TEXT})


@only_pgoutput
def test_with_the_other_policy_their_columns_are_text(engine: Engine, source: Database, destination: Database) -> None:
    source.run(*TYPES, f"CREATE TABLE t ({COLUMNS})", f"INSERT INTO t VALUES (1, {ROW})")
    texts = "SELECT id, mood::text, moods::text, nested::text FROM t ORDER BY id"
    with running(with_text(pipeline(engine, source, [destination], "t"))) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(f"INSERT INTO t VALUES (2, {ROW})", "UPDATE t SET mood = 'sad' WHERE id = 1")
        source.run('ALTER TABLE t ADD COLUMN more kinds."Mood"', "UPDATE t SET id = 3, more = 'sad' WHERE id = 1")
        wait_until(worker, lambda: source.rows(texts) == destination.rows(texts))
    kinds = "SELECT DISTINCT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 1"
    assert [("text",)] == destination.rows(kinds)
    assert [] == destination.rows("SELECT FROM pg_type WHERE typname = 'Mood'")


def test_definitions_come_after_those_that_they_use(source: Database) -> None:
    source.run(*TYPES, f"CREATE TABLE t ({COLUMNS})")
    oids = [oid for (oid,) in source.rows("SELECT atttypid::bigint FROM pg_attribute WHERE attrelid = 't'::regclass")]
    with connect(source.connection) as connection:
        names = [definition.name for definition in read_type_definitions(connection, oids)]
    assert sorted(names) == ["Mood", "feeling", "nested", "nested_domain", "pair", "short"]
    for before, after in (
        ("Mood", "pair"),
        ("pair", "nested"),
        ("short", "nested"),
        ("nested", "nested_domain"),
    ):
        assert names.index(before) < names.index(after)

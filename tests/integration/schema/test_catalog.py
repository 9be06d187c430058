"""What the source's catalog tells of tables, and how slots and publications are made, read and dropped."""

import psycopg
import pytest

from rosetta_dagster.cdc.change.schema import Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.catalog import read_schemas, snapshot_relations
from rosetta_dagster.cdc.source.connections import connect, connect_for_replication
from rosetta_dagster.cdc.source.publications import ensure_publication
from rosetta_dagster.cdc.source.slots import (
    source_identity,
)
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.publications import missing_tables

T = TableId("public", "t")

INTEGER, TEXT, NUMERIC, INTEGER_ARRAY = 23, 25, 1700, 1007


def schema_of(database: Database, *statements: str, table: TableId = T) -> TableSchema:
    database.run(*statements)
    with connect(database.connection) as connection:
        return read_schemas(connection, [table])[table]


def sizes(connection: "psycopg.Connection[tuple[object, ...]]", table: TableId) -> list[tuple[TableId, int]]:
    """The relations of a table and their pages."""
    return [(relation.id, page_count) for relation, page_count in snapshot_relations(connection, table)]


def types_of(schema: TableSchema) -> dict[str, str]:
    return {column.name: column.type for column in schema.columns}


def test_columns_come_in_order_with_type_nullability_and_comments(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE TABLE t (b numeric(12,2) NOT NULL, a varchar(40), c timestamp(3) with time zone, gone integer)",
        "ALTER TABLE t DROP COLUMN gone",
        "COMMENT ON TABLE t IS 'of all things'",
        "COMMENT ON COLUMN t.a IS 'the ''a'''",
    )
    assert [
        ("b", "numeric(12,2)", NUMERIC, True, None),
        ("a", "character varying(40)", 1043, False, "the 'a'"),
        ("c", "timestamp(3) with time zone", 1184, False, None),
    ] == [(c.name, c.type, c.type_oid, c.not_null, c.comment) for c in schema.columns]
    assert ("of all things", (), Identity.NOTHING) == (schema.comment, schema.key, schema.identity)


def test_tables_come_in_the_order_asked_for_and_those_that_do_not_exist_not(source: Database) -> None:
    source.run("CREATE TABLE b (id int)", "CREATE TABLE a (id int)", "CREATE SCHEMA s", "CREATE TABLE s.a (x int)")
    ids = [
        TableId("public", "b"),
        TableId("public", "ghost"),
        TableId("s", "a"),
        TableId("ghost", "a"),
        TableId("public", "a"),
    ]
    with connect(source.connection) as connection:
        assert [ids[0], ids[2], ids[4]] == list(read_schemas(connection, ids))
        assert {} == read_schemas(connection, [])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW t AS SELECT 1 AS a",
        "CREATE MATERIALIZED VIEW t AS SELECT 1 AS a",
        "CREATE SEQUENCE t",
        "CREATE TYPE t AS (a int)",
    ],
)
def test_what_is_no_table_is_not_found(source: Database, statement: str) -> None:
    source.run(statement)
    with connect(source.connection) as connection:
        assert {} == read_schemas(connection, [T])


def test_a_composite_key_is_in_the_order_of_the_key(source: Database) -> None:
    schema = schema_of(source, "CREATE TABLE t (a int, b int, c int, d int, PRIMARY KEY (d, a, c))")
    assert ("d", "a", "c") == schema.key
    assert (3, 0, 2) == schema.key_indexes
    assert {"a": True, "b": False, "c": True, "d": True} == {c.name: c.not_null for c in schema.columns}


def test_a_key_stays_right_when_columns_before_it_are_dropped(source: Database) -> None:
    schema = schema_of(source, "CREATE TABLE t (x int, a int, b int PRIMARY KEY)", "ALTER TABLE t DROP COLUMN x")
    assert (("b",), (1,)) == (schema.key, schema.key_indexes)


def test_the_index_of_the_replica_identity_comes_before_the_primary_key(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c int)",
        "CREATE UNIQUE INDEX other ON t (c)",
        "CREATE UNIQUE INDEX by_b_and_a ON t (b, a)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX by_b_and_a",
    )
    assert (("b", "a"), Identity.KEY) == (schema.key, schema.identity)


@pytest.mark.parametrize(
    ("clause", "identity"), [("DEFAULT", Identity.KEY), ("FULL", Identity.FULL), ("NOTHING", Identity.NOTHING)]
)
def test_the_replica_identity_is_read_and_a_primary_key_stays_the_key(
    source: Database, clause: str, identity: Identity
) -> None:
    schema = schema_of(source, "CREATE TABLE t (id int PRIMARY KEY, a int)", f"ALTER TABLE t REPLICA IDENTITY {clause}")
    assert (("id",), identity) == (schema.key, schema.identity)


def test_a_unique_index_alone_is_no_key(source: Database) -> None:
    assert () == schema_of(source, "CREATE TABLE t (id int NOT NULL UNIQUE)").key


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD PRIMARY KEY (id) INCLUDE (payload)",
        "CREATE UNIQUE INDEX covering ON t (id) INCLUDE (payload); ALTER TABLE t REPLICA IDENTITY USING INDEX covering",
    ],
)
def test_columns_that_an_index_only_includes_are_not_of_the_key(source: Database, statement: str) -> None:
    assert ("id",) == schema_of(source, "CREATE TABLE t (id int NOT NULL, payload text)", statement).key


def test_a_deferrable_primary_key_identifies_nothing(source: Database) -> None:
    schema = schema_of(
        source, "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", "INSERT INTO t VALUES (1)",
        "CREATE PUBLICATION p FOR TABLE t",
    )  # fmt: skip
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="does not have a replica identity"):
        source.run("UPDATE t SET id = 2")
    assert schema.identity is Identity.NOTHING or schema.key == ()


def test_a_table_whose_identity_index_was_dropped_identifies_nothing(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL)",
        "CREATE UNIQUE INDEX by_a ON t (a)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX by_a",
        "DROP INDEX by_a",
        "INSERT INTO t VALUES (1, 1)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="does not have a replica identity"):
        source.run("UPDATE t SET id = 2")
    assert schema.identity is Identity.NOTHING or schema.key == ()


def test_a_generated_column_is_left_out_and_an_identity_column_is_not(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED,"
        " c int)",
    )
    assert ("id", "a", "c") == schema.column_names


def test_domains_and_arrays_are_resolved_to_what_they_are_made_of(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE DOMAIN whole AS int CHECK (value > 0)",
        "CREATE DOMAIN small AS whole",
        "CREATE DOMAIN many AS int[]",
        "CREATE TABLE t (plain int, whole whole, small small, numbers int[][], many many, smalls small[], texts text[])",
    )
    base = {c.name: (c.base_oid, c.element_oid) for c in schema.columns}
    assert (INTEGER, 0) == base["plain"] == base["whole"] == base["small"]
    assert (INTEGER_ARRAY, INTEGER) == base["numbers"] == base["many"]
    assert INTEGER == base["smalls"][1]
    assert (1009, TEXT) == base["texts"]
    own = {c.name for c in schema.columns if c.type_oid >= 16384}
    assert {"whole", "small", "many", "smalls"} == own


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", 'it\'s "so", {\\}'),
        ("text", ""),
        ("box", "(1,2),(-3,0)"),
        ("integer[]", "{1,NULL}"),
        ("text[]", '{"a,b",NULL}'),
        ("jsonb", '{"a": [1, "b"]}'),
    ],
)
def test_what_older_rows_hold_in_a_column_is_read_as_it_is_printed(source: Database, type_: str, value: str) -> None:
    text = value.replace("'", "''")
    schema = schema_of(
        source,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
        f"ALTER TABLE t ADD COLUMN added {type_} DEFAULT '{text}'",
    )
    assert (OldRowValues.CONSTANT, value) == (schema.columns[1].filling, schema.columns[1].fill_value)
    assert [(value,)] == source.rows("SELECT added::text FROM t")


def test_types_that_are_not_the_servers_own_are_spelled_with_their_namespace(source: Database) -> None:
    schema = schema_of(
        source,
        'CREATE SCHEMA "Odd space"',
        'CREATE TYPE "Odd space"."Mood" AS ENUM (\'ok\')',
        "CREATE TYPE mood AS ENUM ('ok')",
        "CREATE DOMAIN price AS numeric(10,2)",
        'CREATE TABLE t (a "Odd space"."Mood", b "Odd space"."Mood"[], c mood, d price, e numeric(3)[], f "char", g bpchar)',
    )
    assert {
        "a": '"Odd space"."Mood"', "b": '"Odd space"."Mood"[]', "c": "public.mood", "d": "public.price",
        "e": "numeric(3,0)[]", "f": '"char"', "g": "bpchar",
    } == types_of(schema)  # fmt: skip


@pytest.mark.parametrize("name", ["Mixed", "select", "o'clock", 'quo"te', "a.b", "%s %c", "ü" * 31, "x" * 63, "日本", " "])
def test_odd_names_are_read_as_they_are(source: Database, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    table = TableId(name, name)
    schema = schema_of(
        source, f"CREATE SCHEMA {quoted}", f"CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY)", table=table
    )
    assert (table, (name,), (name,)) == (schema.id, schema.column_names, schema.key)
    with connect(source.connection) as connection:
        assert [(table, 0)] == sizes(connection, table)
        ensure_publication(connection, f"rosetta_{name}"[:40], [table])
        assert [] == missing_tables(connection, f"rosetta_{name}"[:40], [table])


def test_names_that_differ_in_case_only_are_kept_apart(source: Database) -> None:
    source.run("CREATE TABLE t (a int)", 'CREATE TABLE "T" (b int)')
    with connect(source.connection) as connection:
        schemas = read_schemas(connection, [T, TableId("public", "T")])
    assert [("a",), ("b",)] == [schema.column_names for schema in schemas.values()]


def test_a_partitioned_table_is_one_table_whose_rows_are_in_its_leaves(source: Database) -> None:
    schema = schema_of(
        source,
        "CREATE TABLE t (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE t2 PARTITION OF t DEFAULT PARTITION BY LIST (id)",
        "CREATE TABLE t3 PARTITION OF t2 DEFAULT",
        "INSERT INTO t SELECT i, '2023-01-01' FROM generate_series(1, 1000) AS i",
    )
    assert (("id", "day"), ("id", "day")) == (schema.column_names, schema.key)
    with connect(source.connection) as connection:
        pages = dict(sizes(connection, T))
    assert {TableId("public", "t1"), TableId("public", "t3")} == set(pages)
    assert 0 == pages[TableId("public", "t1")]
    assert 0 < pages[TableId("public", "t3")]


def test_the_size_of_an_ordinary_table_is_in_pages(source: Database) -> None:
    source.run("CREATE TABLE t (a text)", "INSERT INTO t SELECT repeat('x', 2000) FROM generate_series(1, 40)")
    with connect(source.connection) as connection:
        assert [(T, 10)] == sizes(connection, T)


def test_the_identity_of_a_source_is_that_of_its_cluster(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database
) -> None:
    with connect_for_replication(source.connection) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
    assert row is not None
    assert row[0] == source_identity(catalog).system_identifier


def test_a_wrong_password_of_a_replication_connection_is_reported_without_it(source: Database) -> None:
    wrong = PostgresConnection.model_validate({**source.config, "password": "hunter2hunter2"})
    with pytest.raises(ConfigurationError, match="password authentication failed") as caught:
        connect_for_replication(wrong)
    assert "hunter2" not in str(caught.value)

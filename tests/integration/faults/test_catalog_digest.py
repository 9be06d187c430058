"""The digest of the catalog differs after everything that a fingerprint shows, so that a look at it alone is enough."""

from typing import Final

import pytest

from rosetta_dagster.cdc.change.fingerprint import Fingerprint
from rosetta_dagster.cdc.source.catalog_digest import read_digest
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.gaps import GAPS, create_tables, make_gap

PUBLICATION: Final = "mine"

#: Statements that change what a fingerprint holds, one for each part of it.
CHANGES: Final = (
    "DROP TABLE items",
    "CREATE TABLE missing (id int)",
    "ALTER TABLE items RENAME TO other",
    "ALTER TABLE items SET SCHEMA other",
    "ALTER SCHEMA public RENAME TO away; ALTER SCHEMA away RENAME TO public",
    "ALTER TABLE items ALTER v SET STATISTICS 10",
    "ALTER TABLE items REPLICA IDENTITY FULL",
    "ALTER TABLE items DROP CONSTRAINT items_pkey",
    "TRUNCATE items",
    "ALTER TYPE pair ADD ATTRIBUTE b int",
    "ALTER TABLE p_1_1 SET UNLOGGED",
    "ALTER TABLE p_1 DETACH PARTITION p_1_1",
    "SET LOCAL allow_system_table_mods = on; UPDATE pg_inherits SET inhdetachpending = true",
    "CREATE TABLE p_1_2 PARTITION OF p_1 FOR VALUES FROM (5) TO (10)",
    f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert')",
    f"ALTER PUBLICATION {PUBLICATION} SET TABLE items WHERE (id > 5), p",
    f"ALTER PUBLICATION {PUBLICATION} DROP TABLE items",
    f"ALTER PUBLICATION {PUBLICATION} ADD TABLES IN SCHEMA public",
    f"ALTER PUBLICATION {PUBLICATION} RENAME TO other",
)


@pytest.fixture(scope="module")
def tables() -> list[TableId]:
    return [TableId("public", table) for table in GAPS]


def fingerprints(source: Database, tables: list[TableId]) -> dict[TableId, Fingerprint]:
    with source.connect() as connection:
        return dict(read_fingerprints(connection, [PUBLICATION], tables))


def digest(source: Database, tables: list[TableId], known: dict[TableId, Fingerprint]) -> str:
    with source.connect() as connection:
        return read_digest(connection, [PUBLICATION], tables, known)


def publish_all(source: Database) -> None:
    """Publish inserts of the table without a key, and all changes of the others."""
    listed = ", ".join(f"ONLY {table}" for table in GAPS if table != "keyless")
    source.run(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {listed} WITH (publish_via_partition_root = true)")


def test_every_kind_of_gap_changes_the_digest_of_its_table_alone(source: Database, tables: list[TableId]) -> None:
    create_tables(source)
    publish_all(source)
    for table in tables:
        known = fingerprints(source, tables)
        others = [each for each in tables if each != table]
        before = digest(source, [table], known), digest(source, others, known)
        make_gap(source, table.name, PUBLICATION)
        after = digest(source, [table], known), digest(source, others, known)
        assert after[0] != before[0], table
        assert after[1] == before[1], table


def test_each_change_of_what_is_known_shows(source: Database) -> None:
    source.run(
        "CREATE SCHEMA other",
        "CREATE TYPE pair AS (a int)",
        "CREATE TABLE items (id int PRIMARY KEY, v text NOT NULL, pairs pair[])",
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1_1 PARTITION OF p_1 FOR VALUES FROM (0) TO (5)",
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE items, p",
    )
    tables = [TableId("public", name) for name in ("items", "keyless", "p", "missing")]
    known = fingerprints(source, tables)
    before = digest(source, tables, known)
    source.run("INSERT INTO items VALUES (1, 'a')", "INSERT INTO keyless VALUES (1)", "VACUUM ANALYZE")
    assert digest(source, tables, known) == before, "rows alone change nothing"
    unseen = []
    for statement in CHANGES:
        with source.connect() as connection, connection.transaction(force_rollback=True):
            connection.execute(statement)
            if read_digest(connection, [PUBLICATION], tables, known) == before:
                unseen.append(statement)
    assert unseen == []

"""Changes at a source that no stream carries, by kind: what tests make around a stream."""

from typing import Final

from tests.support.database import Database

#: For each kind of gap, statements that make its table, and statements around the stream.
GAPS: Final[dict[str, tuple[list[str], list[str]]]] = {
    "replaced": (
        ["CREATE TABLE replaced (id int PRIMARY KEY, v text)"],
        [
            "BEGIN",
            "DROP TABLE replaced",
            "CREATE TABLE replaced (id int PRIMARY KEY, v text)",
            "INSERT INTO replaced VALUES (1, 'new')",
            "COMMIT",
        ],
    ),
    "renamed": (
        ["CREATE TABLE renamed (id int PRIMARY KEY, v text)"],
        [
            "ALTER TABLE renamed RENAME TO x",
            "INSERT INTO x VALUES (7, 'under another name')",
            "ALTER TABLE x RENAME TO renamed",
        ],
    ),
    "moved": (
        ["CREATE TABLE moved (id int PRIMARY KEY, v text)"],
        [
            "ALTER TABLE moved SET SCHEMA other",
            "INSERT INTO other.moved VALUES (7, 'in another schema')",
            "ALTER TABLE other.moved SET SCHEMA public",
        ],
    ),
    "swapped": (
        ["CREATE TABLE swapped (id int PRIMARY KEY, v text)", "CREATE TABLE spare (id int PRIMARY KEY, v text)"],
        [
            "INSERT INTO spare VALUES (9, 'spare')",
            "BEGIN",
            "ALTER TABLE swapped RENAME TO y",
            "ALTER TABLE spare RENAME TO swapped",
            "ALTER TABLE y RENAME TO spare",
            "COMMIT",
        ],
    ),
    "narrowed": (
        ["CREATE TABLE narrowed (id int PRIMARY KEY, v text)"],
        [
            "ALTER PUBLICATION {publication} DROP TABLE narrowed",
            "INSERT INTO narrowed VALUES (7, 'not published')",
            "ALTER PUBLICATION {publication} ADD TABLE narrowed",
        ],
    ),
    "left_out": (
        ["CREATE TABLE left_out (id int PRIMARY KEY, v text)"],
        ["ALTER PUBLICATION {publication} DROP TABLE left_out", "INSERT INTO left_out VALUES (7, 'not published')"],
    ),
    "keyless": (["CREATE TABLE keyless (id int, v text)"], ["UPDATE keyless SET v = 'changed'", "DELETE FROM keyless"]),
    "parts": (
        [
            "CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)",
            "INSERT INTO parts SELECT n, 'part' FROM generate_series(0, 19) AS n",
        ],
        ["TRUNCATE parts_1", "INSERT INTO parts VALUES (15, 'x') ON CONFLICT (id) DO UPDATE SET v = 'updated'"],
    ),
    "detached": (
        [
            "CREATE TABLE detached (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE detached_1 PARTITION OF detached FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE detached_2 PARTITION OF detached FOR VALUES FROM (10) TO (20)",
            "INSERT INTO detached SELECT n, 'part' FROM generate_series(0, 19) AS n",
        ],
        ["ALTER TABLE detached DETACH PARTITION detached_1"],
    ),
    "attached": (
        [
            "CREATE TABLE attached (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE attached_1 PARTITION OF attached FOR VALUES FROM (0) TO (10)",
        ],
        [
            "CREATE TABLE attached_2 (id int PRIMARY KEY, v text)",
            "INSERT INTO attached_2 SELECT n, 'before' FROM generate_series(10, 19) AS n",
            "ALTER TABLE attached ATTACH PARTITION attached_2 FOR VALUES FROM (10) TO (20)",
            "INSERT INTO attached VALUES (5, 'after')",
        ],
    ),
    "dropped_part": (
        [
            "CREATE TABLE dropped_part (id int PRIMARY KEY, v text) PARTITION BY HASH (id)",
            "CREATE TABLE dropped_part_1 PARTITION OF dropped_part FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "CREATE TABLE dropped_part_2 PARTITION OF dropped_part FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            "INSERT INTO dropped_part SELECT n, 'part' FROM generate_series(0, 19) AS n",
        ],
        ["DROP TABLE dropped_part_1"],
    ),
    # What rows hold in a column that was added, where the catalog does not say so any more.
    "volatile": (
        ["CREATE TABLE volatile (id int PRIMARY KEY, v text)"],
        [
            "ALTER TABLE volatile ADD u uuid NOT NULL DEFAULT gen_random_uuid()",
            "ALTER TABLE volatile ALTER u DROP DEFAULT",
            "INSERT INTO volatile VALUES (7, 'x', gen_random_uuid())",
        ],
    ),
    "identity": (
        ["CREATE TABLE identity (id int PRIMARY KEY, v text)"],
        [
            "ALTER TABLE identity ADD n bigint GENERATED ALWAYS AS IDENTITY",
            "ALTER TABLE identity ALTER n DROP IDENTITY",
            "INSERT INTO identity VALUES (7, 'x', 3)",
        ],
    ),
    "random": (
        ["CREATE TABLE random (id int PRIMARY KEY, v text)"],
        [
            "ALTER TABLE random ADD n float8 DEFAULT random()",
            "ALTER TABLE random ALTER n SET DEFAULT NULL",
            "INSERT INTO random VALUES (7, 'x', 3)",
        ],
    ),
    "computed": (
        ["CREATE TABLE computed (id int PRIMARY KEY, v text, n int)", "INSERT INTO computed VALUES (1, 'a', 5)"],
        ["ALTER TABLE computed ALTER n TYPE bigint USING n * 2", "INSERT INTO computed VALUES (7, 'x', 3)"],
    ),
    # What the stream carries hides none of it.
    "hidden": (
        ["CREATE TABLE hidden (id int PRIMARY KEY, v text)"],
        [
            "ALTER PUBLICATION {publication} DROP TABLE hidden",
            "INSERT INTO hidden VALUES (7, 'not published')",
            "ALTER PUBLICATION {publication} ADD TABLE hidden",
            "ALTER TABLE hidden ADD w int",
            "INSERT INTO hidden VALUES (8, 'published', 1)",
        ],
    ),
    "hidden_part": (
        [
            "CREATE TABLE hidden_part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
            "CREATE TABLE hidden_part_1 PARTITION OF hidden_part FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE hidden_part_2 PARTITION OF hidden_part FOR VALUES FROM (10) TO (20)",
            "INSERT INTO hidden_part SELECT n, 'part' FROM generate_series(0, 19) AS n",
        ],
        ["DROP TABLE hidden_part_1", "ALTER TABLE hidden_part ADD w int", "UPDATE hidden_part SET v = 'changed'"],
    ),
    "same_type": (
        ["CREATE TABLE same_type (id int PRIMARY KEY, v text)"],
        ["ALTER TABLE same_type ALTER v TYPE text USING upper(v)"],
    ),
    "generated": (
        ["CREATE TABLE generated (id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (id * 2) STORED)"],
        ["ALTER TABLE generated ALTER g DROP EXPRESSION", "INSERT INTO generated VALUES (7, 'x', 1)"],
    ),
    "relabelled": (
        [
            "CREATE TYPE mood AS ENUM ('sad', 'ok')",
            "CREATE TABLE relabelled (id int PRIMARY KEY, v mood[])",
            "INSERT INTO relabelled VALUES (1, '{sad,ok}')",
        ],
        ["ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"],
    ),
    "domain": (
        ["CREATE TABLE domain (id int PRIMARY KEY, v text)", "CREATE DOMAIN lottery AS float8 DEFAULT random()"],
        [
            "ALTER TABLE domain ADD n lottery",
            "ALTER DOMAIN lottery DROP DEFAULT",
            "INSERT INTO domain VALUES (7, 'x', 3)",
        ],
    ),
}


def create_tables(source: Database) -> list[str]:
    """Create the tables of all kinds, with rows, and return their names."""
    source.run("CREATE SCHEMA other")
    for table, (create, _) in GAPS.items():
        source.run(*create)
        if "INSERT" not in create[-1]:
            source.run(f"INSERT INTO {table} (id, v) SELECT n, 'old' FROM generate_series(1, 3) AS n")
    return list(GAPS)


def make_gap(source: Database, table: str, publication: str) -> None:
    """Make the gap of this table."""
    source.run(*(statement.format(publication=publication) for statement in GAPS[table][1]))

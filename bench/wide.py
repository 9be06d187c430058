"""The part `wide`: rows of two texts of 8 kB that are stored out of line, and updates that leave them alone or rewrite one.

PostgreSQL does not send an out-of-line text that was not changed. A contender has to keep the one at the destination.
"""

from typing import Final, LiteralString

from psycopg import sql

from bench.field import Scale
from bench.parts import Changes, backlog
from bench.results import PartResult
from bench.servers import Servers
from bench.workload import Workload

_CREATE: Final[LiteralString] = """
CREATE TABLE documents (
    id bigint PRIMARY KEY, title text NOT NULL, views int NOT NULL, is_open boolean NOT NULL, at timestamptz NOT NULL,
    body text NOT NULL, source text NOT NULL
);
CREATE TABLE marker (number bigint PRIMARY KEY);
"""

#: 8,000 characters, different for each seed.
_TEXT: Final[LiteralString] = """
CREATE FUNCTION text_of(seed text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(md5(seed || n), '') FROM generate_series(1, 250) AS n
$$;
"""

_FILL: Final[sql.SQL] = sql.SQL("""
INSERT INTO documents
SELECT n, 'document ' || n, 0, true, timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
       text_of('body ' || n), text_of('source ' || n)
FROM generate_series(1, {rows}) AS n;
""")

#: One transaction of ten changes: five of small columns only, five that rewrite a text.
_WRITE: Final[LiteralString] = """
CREATE PROCEDURE write_wide(transaction_count int) LANGUAGE plpgsql AS $$
DECLARE
    row_count bigint := (SELECT max(id) FROM documents);
    picked bigint;
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        FOR step IN 1 .. 5 LOOP
            picked := 1 + floor(random() * row_count);
            UPDATE documents SET views = views + 1, is_open = NOT is_open WHERE id = picked;
            picked := 1 + floor(random() * row_count);
            UPDATE documents SET body = text_of(random()::text), at = now() WHERE id = picked;
        END LOOP;
        COMMIT;
    END LOOP;
END $$;
"""


def wide(servers: Servers, scale: Scale) -> PartResult:
    """Measure a backlog of 20,000 updates of 5,000 rows."""
    rows = 5_000
    workload = Workload(
        tables=("documents", "marker"),
        create=_CREATE,
        prepare=(_TEXT, _FILL.format(rows=sql.Literal(rows)), _WRITE),
        row_count=rows,
    )
    changes = Changes(name="wide rows", calls=("CALL write_wide(2000)",), count=20_000)
    return backlog(servers, scale, workload, changes)

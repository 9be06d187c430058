"""Tables and changes of most parts, as SQL that runs inside the source.

`accounts` is pgbench's; `events` has the types that applications use. A backlog is written in transactions of 10
changes, except for the one large transaction. Its last change is a row of `marker`: once that is
visible at a destination, everything is.
"""

from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import sql

Statement = LiteralString | sql.Composed


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Tables, their first rows, and the procedures that change them. One of the tables is `marker`."""

    tables: tuple[str, ...]
    #: Creates the tables, at the source and at native replication's destination.
    create: Statement
    #: Creates the procedures and fills the tables.
    prepare: tuple[Statement, ...]
    #: Rows in all tables at first.
    row_count: int


_CREATE: Final[LiteralString] = """
CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, abalance int NOT NULL, filler text NOT NULL);
CREATE TABLE events (
    id bigint PRIMARY KEY, ref uuid NOT NULL, amount numeric(12, 2), at timestamptz NOT NULL, body jsonb, note text,
    is_open boolean NOT NULL
);
CREATE TABLE marker (number bigint PRIMARY KEY);
"""

_FILL: Final[sql.SQL] = sql.SQL("""
INSERT INTO accounts SELECT n, n % 100, 0, repeat('x', 64) FROM generate_series(1, {accounts}) AS n;
INSERT INTO events
SELECT n, md5(n::text)::uuid, n % 100000 / 100.0, timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
       jsonb_build_object('number', n, 'kind', 'first'), 'event ' || n, n % 2 = 0
FROM generate_series(1, {events}) AS n;
""")

#: What one transaction of ten changes does: 60 % updates, 30 % inserts, 10 % deletes, over both tables.
_MIXED: Final[LiteralString] = """
CREATE PROCEDURE write_mixed(transaction_count int, account_count int) LANGUAGE plpgsql AS $$
DECLARE
    next_id bigint := (SELECT max(id) + 1 FROM events);
    oldest bigint := (SELECT min(id) FROM events);
    picked bigint;
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        FOR step IN 1 .. 4 LOOP
            picked := 1 + floor(random() * account_count);
            UPDATE accounts SET abalance = abalance + step WHERE aid = picked;
        END LOOP;
        picked := oldest + 1 + floor(random() * (next_id - oldest - 2));
        UPDATE events SET amount = amount + 1, is_open = NOT is_open WHERE id IN (picked, next_id - 1);
        INSERT INTO events
        SELECT n, md5(n::text)::uuid, n % 1000 / 10.0, now(), jsonb_build_object('number', n), 'event ' || n, true
        FROM generate_series(next_id, next_id + 2) AS n;
        DELETE FROM events WHERE id = oldest;
        next_id := next_id + 3;
        oldest := oldest + 1;
        COMMIT;
    END LOOP;
END $$;
"""

#: Rows that are updated repeatedly, ten in a transaction.
_HOT: Final[LiteralString] = """
CREATE PROCEDURE write_hot(row_count int, times int) LANGUAGE plpgsql AS $$
BEGIN
    FOR round IN 1 .. times LOOP
        FOR low IN 0 .. row_count / 10 - 1 LOOP
            UPDATE accounts SET abalance = abalance + 1 WHERE aid BETWEEN low * 10 + 1 AND low * 10 + 10;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;
"""

_INSERTS: Final[LiteralString] = """
CREATE PROCEDURE write_inserts(transaction_count int) LANGUAGE plpgsql AS $$
DECLARE
    next_id bigint := (SELECT max(id) + 1 FROM events);
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        INSERT INTO events
        SELECT n, md5(n::text)::uuid, n % 1000 / 10.0, now(), jsonb_build_object('number', n), 'event ' || n, true
        FROM generate_series(next_id, next_id + 9) AS n;
        next_id := next_id + 10;
        COMMIT;
    END LOOP;
END $$;
"""

_LARGE: Final[LiteralString] = """
CREATE PROCEDURE write_large(change_count int) LANGUAGE plpgsql AS $$
DECLARE
    next_id bigint := (SELECT max(id) + 1 FROM events);
BEGIN
    UPDATE accounts SET abalance = abalance + 1 WHERE aid <= change_count / 2;
    INSERT INTO events
    SELECT n, md5(n::text)::uuid, n % 1000 / 10.0, now(), jsonb_build_object('number', n), 'event ' || n, true
    FROM generate_series(next_id, next_id + change_count / 2 - 1) AS n;
END $$;
"""


def mixed(*, accounts: int, events: int) -> Workload:
    """Return a workload of both tables, with this many rows each."""
    fill = _FILL.format(accounts=sql.Literal(accounts), events=sql.Literal(events))
    return Workload(
        tables=("accounts", "events", "marker"),
        create=_CREATE,
        prepare=(_MIXED, _HOT, _INSERTS, _LARGE, fill),
        row_count=accounts + events,
    )


def create_source(url: str, workload: Workload) -> None:
    """Create the tables with their first rows, and publish them."""
    tables = sql.SQL(", ").join(map(sql.Identifier, workload.tables))
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (workload.create, *workload.prepare):
            connection.execute(statement)
        connection.execute(sql.SQL("CREATE PUBLICATION bench FOR TABLE {}").format(tables))


def write(url: str, call: LiteralString, marker: int) -> None:
    """Run one of the procedures, then write the marker. The source need not wait for its disk: writing is not measured."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(call)
        connection.execute("INSERT INTO marker VALUES (%s)", [marker])

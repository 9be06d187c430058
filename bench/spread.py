"""The part `tables`: the same changes over 1, 10, 100 and 1,000 tables. A change should cost the same."""

from collections.abc import Iterator
from typing import Final, LiteralString

from psycopg import sql

from bench.field import Scale
from bench.parts import Changes, backlog
from bench.results import PartResult
from bench.servers import Servers
from bench.workload import Workload

_TABLE_COUNTS: Final = (1, 10, 100, 1_000)
_CHANGE_COUNT: Final = 100_000

_CREATE: Final = sql.SQL("""
DO $$ BEGIN
    FOR n IN 0 .. {tables} - 1 LOOP
        EXECUTE format('CREATE TABLE spread_%s (id bigint PRIMARY KEY, amount int NOT NULL, note text)', n);
    END LOOP;
END $$;
CREATE TABLE marker (number bigint PRIMARY KEY);
""")

#: Row n is in the table n modulo the number of tables.
_FILL: Final = sql.SQL("""
DO $$ BEGIN
    FOR n IN 0 .. {tables} - 1 LOOP
        EXECUTE format('INSERT INTO spread_%s SELECT id, 0, ''row '' || id
                        FROM generate_series(%s, {rows} - 1, {tables}) AS id', n, n);
    END LOOP;
END $$;
CREATE SEQUENCE numbers START {rows};
""")

#: Transactions of ten changes, five updates and five inserts, each in a random table.
_WRITE: Final = sql.SQL("""
CREATE PROCEDURE write_spread(transaction_count int) LANGUAGE plpgsql AS $$
DECLARE
    picked bigint;
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        FOR step IN 1 .. 5 LOOP
            picked := floor(random() * {rows});
            EXECUTE format('UPDATE spread_%s SET amount = amount + 1 WHERE id = $1', picked % {tables}) USING picked;
            picked := nextval('numbers');
            EXECUTE format('INSERT INTO spread_%s VALUES ($1, 0, ''row '' || $1)', picked % {tables}) USING picked;
        END LOOP;
        COMMIT;
    END LOOP;
END $$;
""")


def spread(*, tables: int, rows: int) -> Workload:
    """Return a workload of rows over numbered tables, `spread_0` and so on."""
    numbers = {"tables": sql.Literal(tables), "rows": sql.Literal(rows)}
    return Workload(
        tables=(*(f"spread_{n}" for n in range(tables)), "marker"),
        create=_CREATE.format(**numbers),
        prepare=(_FILL.format(**numbers), _WRITE.format(**numbers)),
        row_count=rows,
    )


def write_spread(change_count: int) -> LiteralString:
    return f"CALL write_spread({change_count // 10})"


def over_tables(servers: Servers, scale: Scale) -> Iterator[PartResult]:
    """Measure the same backlog for each number of tables."""
    for count in _TABLE_COUNTS:
        name = f"{_CHANGE_COUNT:,} changes over {count:,} tables" if count > 1 else f"{_CHANGE_COUNT:,} changes in one table"
        changes = Changes(name=name, calls=(write_spread(_CHANGE_COUNT),), count=_CHANGE_COUNT)
        yield backlog(servers, scale, spread(tables=count, rows=_CHANGE_COUNT), changes)

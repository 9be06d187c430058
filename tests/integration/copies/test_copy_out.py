import psycopg
import pytest
from psycopg import sql

from rosetta_dagster.cdc.source import copy_out as module
from rosetta_dagster.cdc.source.copy_out import copy_out
from tests.support.database import Database


def copied(database: Database, query: str) -> list[bytes]:
    with database.connect() as connection:
        return list(copy_out(connection, sql.SQL("COPY (" + query + ") TO STDOUT")))


def test_every_row_comes_once_in_order_and_in_blocks(source: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_SIZE", 1000)
    blocks = copied(source, "SELECT n, NULL, E'a\\tb' FROM generate_series(1, 5000) AS n")
    assert b"".join(b"%d\t\\N\ta\\tb\n" % n for n in range(1, 5001)) == b"".join(blocks)
    assert 1 < len(blocks) < 100


def test_no_rows_make_no_block_and_the_connection_goes_on(source: Database) -> None:
    with source.connect() as connection:
        assert [] == list(copy_out(connection, sql.SQL("COPY (SELECT 1 WHERE false) TO STDOUT")))
        assert (1,) == connection.execute("SELECT 1").fetchone()


def test_a_statement_that_the_server_refuses_raises(source: Database) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        copied(source, "SELECT * FROM nothing")


def test_a_copy_that_breaks_off_raises(source: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        copied(source, "SELECT 1 / (n - 4000) FROM generate_series(1, 5000) AS n")


def test_a_server_that_goes_away_raises(source: Database) -> None:
    with source.connect() as connection, source.connect() as other:
        rows = copy_out(
            connection, sql.SQL("COPY (SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) AS n) TO STDOUT")
        )
        next(rows)
        other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            list(rows)


def test_a_copy_that_is_not_read_to_the_end_closes_the_connection(source: Database) -> None:
    with source.connect() as connection:
        rows = copy_out(connection, sql.SQL("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"))
        next(rows)
        rows.close()
        assert connection.closed

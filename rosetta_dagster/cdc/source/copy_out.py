"""Reads what a COPY sends, in blocks that are worth handing on: the server sends each row as a message of its own."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any, Final

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

#: Bytes of a block.
_BLOCK_SIZE: Final = 256 * 1024


def copy_out(connection: "psycopg.Connection[Any]", statement: sql.Composable) -> Generator[bytes, None, None]:
    """The statement's rows; raises what the server says is wrong. Unless they are read to the end, the connection is closed.

    By libpq's own calls: psycopg's reader costs four times as much for each row, and there are millions.
    """
    connection.pgconn.send_query(statement.as_bytes(connection))
    (started,) = connection.wait(generators.execute(connection.pgconn))
    if started.status != psycopg.pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(started)
    with ExitStack() as unless_finished:
        # Also when the reader has had enough: half a COPY cannot be continued.
        unless_finished.callback(connection.close)
        yield from _blocks(connection)
        _finish(connection.pgconn)
        unless_finished.pop_all()


def _blocks(connection: "psycopg.Connection[Any]") -> Iterator[bytes]:
    pgconn = connection.pgconn
    next_row = pgconn.get_copy_data
    rows: list[bytes] = []
    size = 0
    while True:
        length, row = next_row(1)
        # Millions of rows pass here: as few calls as possible.
        while length > 0:
            rows.append(bytes(row))
            size += length
            if size >= _BLOCK_SIZE:
                yield b"".join(rows)
                rows, size = [], 0
            length, row = next_row(1)
        if length < 0:
            break
        connection.wait(_readable(pgconn))
    if rows:
        yield b"".join(rows)


def _readable(pgconn: PGconn) -> PQGen[None]:
    """Until there is something to read: the connection waits, which knows for how long."""
    yield Wait.R
    pgconn.consume_input()


def _finish(pgconn: PGconn) -> None:
    """Read the server's last word: the COPY is complete, or it broke off."""
    while (result := pgconn.get_result()) is not None:
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)

"""Holds the connection to the walsender: reads ahead of the journey, and tells the server what is durable.

Threads. `Walsender` owns one thread and, through it, the connection, from the start until `close` returns. Only that
thread touches the connection, since libpq's is not to be shared. It answers the server also while the journey is busy:
one that hears nothing for `wal_sender_timeout` ends the stream. It leaves messages in a queue of bounded size and stops
reading when that is full: that is the back-pressure.
"""

import queue
import select
import socket
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import RosettaError, StreamEnded
from rosetta_dagster.cdc.source.connections import connect_for_replication, source_errors
from rosetta_dagster.cdc.source.pgoutput.protocol import KEEPALIVE, read_keepalive, status_update

#: Messages are handed over in lists of at most so many bytes, and so many lists may wait.
CHUNK_BYTES: Final = 1024 * 1024
CHUNK_LIMIT: Final = 16

#: Seconds between two answers to the server when nothing else calls for one.
STATUS_INTERVAL: Final = 5.0

#: How long the server may take to begin the stream, in seconds.
START_TIMEOUT = 60.0

#: How often a full queue looks whether the stream is being closed, in seconds.
_HANDOVER_POLL: Final = 0.2


class Walsender:
    """An open stream of the slot's messages."""

    def __init__(self, connection: PostgresConnection, slot_name: str, publication_name: str) -> None:
        self._source = connection
        with source_errors(connection):
            self._connection = connect_for_replication(connection, application_name=f"rosetta {slot_name}")
            with ExitStack() as unless_started:
                unless_started.callback(self._connection.close)
                _start(self._connection, slot_name, publication_name)
                unless_started.pop_all()
        self._chunks: queue.Queue[list[bytes]] = queue.Queue(CHUNK_LIMIT)
        self._confirmed = 0
        self._told = 0
        self._told_at = time.monotonic()
        self._closing = threading.Event()
        self._error: RosettaError | None = None
        # Its other end wakes the thread when there is something to confirm.
        self._wake, self._woken = socket.socketpair()
        self._woken.settimeout(0)
        self._thread = threading.Thread(target=self._run, name="walsender", daemon=True)
        self._thread.start()

    def receive(self, timeout: float) -> list[bytes] | None:
        """The next messages; None when there are none within the timeout. What ended the stream is raised after the last."""
        try:
            return self._chunks.get(timeout=timeout) if timeout else self._chunks.get_nowait()
        except queue.Empty:
            if not self._thread.is_alive() and self._chunks.empty():
                raise self._error or _ended() from None
            return None

    def confirm(self, lsn: Lsn) -> None:
        """Everything up to this LSN is durable at every destination."""
        self._confirmed = max(self._confirmed, lsn)
        self._wake_up()

    def close(self, timeout: float) -> bool:
        """End the stream; whether its thread has ended within the timeout."""
        self._closing.set()
        self._wake_up()
        self._thread.join(timeout)
        self._wake.close()
        return not self._thread.is_alive()

    def _wake_up(self) -> None:
        with suppress(OSError):
            self._wake.send(b"x")

    def _run(self) -> None:
        try:
            with source_errors(self._source):
                self._read()
                # What was confirmed last may not have been told.
                self._tell()
        except RosettaError as error:
            self._error = error
        finally:
            self._connection.close()
            self._woken.close()

    def _read(self) -> None:
        while not self._closing.is_set():
            chunk, length = self._read_chunk()
            if chunk:
                self._hand_over(chunk)
            if length == 0:
                self._wait()
            elif length < 0:
                self._raise_end()

    def _read_chunk(self) -> tuple[list[bytes], int]:
        """What is there, up to a limit; and the length of the last message, 0 when no more is there, negative at the end.

        Millions of messages pass here: no more calls than it takes.
        """
        chunk: list[bytes] = []
        size, next_message = 0, self._connection.pgconn.get_copy_data
        while size < CHUNK_BYTES:
            length, data = next_message(1)
            if length <= 0:
                break
            message = bytes(data)
            chunk.append(message)
            size += length
            if message[0] == KEEPALIVE and read_keepalive(message)[1]:
                self._tell()
        return chunk, length

    def _raise_end(self) -> NoReturn:
        """The server has ended the stream; it says why when it does so in anger."""
        result = self._connection.pgconn.get_result()
        if result is not None and result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        raise _ended()

    def _wait(self) -> None:
        """Until there is something to read, to confirm, or to answer."""
        if self._confirmed > self._told or time.monotonic() - self._told_at >= STATUS_INTERVAL:
            self._tell()
        woken = self._woken.fileno()
        readable, _, _ = select.select([self._connection.pgconn.socket, woken], [], [], STATUS_INTERVAL)
        if woken in readable:
            self._woken.recv(4096)
        self._connection.pgconn.consume_input()

    def _hand_over(self, chunk: list[bytes]) -> None:
        while not self._closing.is_set():
            if self._confirmed > self._told or time.monotonic() - self._told_at >= STATUS_INTERVAL:
                self._tell()
            try:
                self._chunks.put(chunk, timeout=_HANDOVER_POLL)
            except queue.Full:
                continue
            return

    def _tell(self) -> None:
        confirmed = self._confirmed
        self._connection.pgconn.put_copy_data(status_update(confirmed, datetime.now(UTC)))
        self._connection.pgconn.flush()
        self._told, self._told_at = confirmed, time.monotonic()


def _start(connection: "psycopg.Connection[Any]", slot_name: str, publication_name: str) -> None:
    """Begin streaming at the slot's own position. Logical messages are wanted for the heartbeat."""
    publications = sql.Literal(sql.Identifier(publication_name).as_string(connection))
    command = sql.SQL(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {}, messages 'true')"
    ).format(sql.Identifier(slot_name), publications)
    pgconn = connection.pgconn
    pgconn.send_query(command.as_bytes(connection))
    while pgconn.is_busy():
        if not select.select([pgconn.socket], [], [], START_TIMEOUT)[0]:
            raise psycopg.OperationalError(f"no answer to START_REPLICATION for {START_TIMEOUT:.0f} seconds")
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or result.status != psycopg.pq.ExecStatus.COPY_BOTH:
        raise psycopg.errors.error_from_result(result) if result else _ended()


def _ended() -> StreamEnded:
    return StreamEnded(
        "The server ended the stream.", "The run restarts by itself. If it ends again, look at the source's server log."
    )

"""Receives the walsender's messages ahead of their use, and confirms to the server what is durable.

Threads. `Walsender` owns one thread from the start until `close` returns. Only that thread uses the connection, because
libpq connections must not be shared. It also answers the server while the messages' reader is busy: a server that hears
nothing for `wal_sender_timeout` ends the stream. It puts messages into a bounded queue and stops reading while the queue
is full, which is the back-pressure.
"""

import queue
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import RosettaError, StreamEnded
from rosetta_dagster.cdc.source.connections import connect_for_replication, source_errors
from rosetta_dagster.cdc.source.encoding import UNCHECKED
from rosetta_dagster.cdc.source.pgoutput.protocol import KEEPALIVE, read_keepalive, status_update

#: The thread hands messages over in lists of about this many bytes, and at most this many lists wait.
CHUNK_BYTES: Final = 1024 * 1024
CHUNK_LIMIT: Final = 16

#: Seconds between two status updates to the server when there is nothing to confirm.
STATUS_INTERVAL: Final = 5.0

#: Seconds that the server may take to begin the stream.
START_TIMEOUT = 60.0

#: Seconds between two checks for the stream being closed while the queue is full.
_HANDOVER_POLL: Final = 0.2


class Walsender:
    """An open stream of a slot's messages."""

    def __init__(self, connection: PostgresConnection, slot_name: str, publication_names: Sequence[str]) -> None:
        self._source = connection
        with source_errors(connection):
            self._connection = connect_for_replication(connection, application_name=f"rosetta {slot_name}")
            with ExitStack() as unless_started:
                unless_started.callback(self._connection.close)
                #: Whether the server checks or converts values, so that all are UTF-8.
                self.sends_utf8 = self._connection.info.parameter_status("server_encoding") != UNCHECKED
                if not self.sends_utf8:
                    # With UTF8 the server would end the stream at the first value that is not UTF-8.
                    self._connection.execute(f"SET client_encoding = {UNCHECKED}")
                _start(self._connection, slot_name, publication_names)
                unless_started.pop_all()
        self._chunks: queue.Queue[list[bytes]] = queue.Queue(CHUNK_LIMIT)
        self._confirmed = 0
        #: The LSN in the last status update, and when it was sent.
        self._reported = 0
        self._reported_at = time.monotonic()
        self._closing = threading.Event()
        self._error: RosettaError | None = None
        # A byte in this pair of sockets wakes the thread.
        self._wake, self._woken = socket.socketpair()
        self._woken.settimeout(0)
        self._thread = threading.Thread(target=self._run, name="walsender", daemon=True)
        self._thread.start()

    def receive(self, timeout: float) -> list[bytes] | None:
        """Return the next messages; None when none came within the timeout. After the last, raise what ended the stream."""
        try:
            return self._chunks.get(timeout=timeout) if timeout else self._chunks.get_nowait()
        except queue.Empty:
            if not self._thread.is_alive() and self._chunks.empty():
                raise self._error or _ended() from None
            return None

    def confirm(self, lsn: Lsn) -> None:
        """Let the slot move to this LSN: everything before it is durable at every destination."""
        self._confirmed = max(self._confirmed, lsn)
        self._wake_up()

    def close(self, timeout: float) -> bool:
        """End the stream. Return whether its thread ended within the timeout."""
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
                # The last confirmation may not have been sent.
                self._send_status()
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
        """Return messages that have arrived, and libpq's last length: 0 when none is left, negative at the end.

        Millions of messages pass here, so the loop makes as few calls as possible.
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
                self._send_status()
        return chunk, length

    def _raise_end(self) -> NoReturn:
        """Raise the error with which the server ended the stream, if it sent one."""
        result = self._connection.pgconn.get_result()
        if result is not None and result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        raise _ended()

    def _wait(self) -> None:
        """Wait until there is something to read or to confirm, or a status update is due."""
        self._send_status_if_due()
        woken = self._woken.fileno()
        readable, _, _ = select.select([self._connection.pgconn.socket, woken], [], [], STATUS_INTERVAL)
        if woken in readable:
            self._woken.recv(4096)
        self._connection.pgconn.consume_input()

    def _hand_over(self, chunk: list[bytes]) -> None:
        while not self._closing.is_set():
            self._send_status_if_due()
            try:
                self._chunks.put(chunk, timeout=_HANDOVER_POLL)
            except queue.Full:
                continue
            return

    def _send_status_if_due(self) -> None:
        if self._confirmed > self._reported or time.monotonic() - self._reported_at >= STATUS_INTERVAL:
            self._send_status()

    def _send_status(self) -> None:
        confirmed = self._confirmed
        self._connection.pgconn.put_copy_data(status_update(confirmed, datetime.now(UTC)))
        self._connection.pgconn.flush()
        self._reported, self._reported_at = confirmed, time.monotonic()


def _start(connection: "psycopg.Connection[Any]", slot_name: str, publication_names: Sequence[str]) -> None:
    """Begin streaming at the slot's position, with logical messages: the heartbeat sends them."""
    publications = sql.Literal(", ".join(sql.Identifier(name).as_string(connection) for name in publication_names))
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
        "The server ended the stream.", "The run restarts by itself. If it ends again, check the source's server log."
    )

"""Tests the way to a PostgreSQL server step by step: the name of its host, the port, and a session."""

import socket
from collections.abc import Iterator

from rosetta_dagster.cdc.config.places import hosts_of
from rosetta_dagster.cdc.connection_steps import Outcome, Step, failed, has_failed, skipped
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection

#: Seconds that a TCP connection may take.
TIMEOUT = 10.0


def network_steps(place: str, host: str, port: int) -> Iterator[Step]:
    """Yield the steps of the first host that answers; of the last one if none does."""
    *others, last = hosts_of(host)
    for other in others:
        steps = list(_steps_to_host(place, other, port))
        if not has_failed(steps):
            yield from steps
            return
    yield from _steps_to_host(place, last, port)


def _steps_to_host(place: str, host: str, port: int) -> Iterator[Step]:
    if host.startswith("/"):
        yield Step(place=place, name="dns", outcome=Outcome.SKIPPED, detail=f"{host} is a directory of sockets")
        return
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError:
        remedy = "Correct the host, or this machine's name servers."
        yield Step(place=place, name="dns", outcome=Outcome.FAILED, detail=f"{host} is not a known host.", remedy=remedy)
        yield from skipped(place, ("tcp",))
        return
    yield Step(place=place, name="dns", outcome=Outcome.OK, detail=f"{host} is {', '.join(addresses)}")
    try:
        socket.create_connection((host, port), timeout=TIMEOUT).close()
    except OSError as error:
        remedy = "Correct the port; see that the server listens on this address and no firewall is between."
        detail = f"Port {port} of {host}: {error.strerror or 'no answer'}."
        yield Step(place=place, name="tcp", outcome=Outcome.FAILED, detail=detail, remedy=remedy)
    else:
        yield Step(place=place, name="tcp", outcome=Outcome.OK, detail=f"port {port} is open")


def session_steps(place: str, connection: WatchedConnection) -> Iterator[Step]:
    """Yield the steps that an open session has passed."""
    is_encrypted = connection.pgconn.ssl_in_use
    remedy = "" if is_encrypted else "To require TLS, set sslmode to require or verify-full."
    detail = "encrypted" if is_encrypted else "not encrypted"
    yield Step(place=place, name="tls", outcome=Outcome.OK, detail=detail, remedy=remedy)
    version = f"as {connection.info.user}, PostgreSQL {connection.info.server_version // 10_000}"
    yield Step(place=place, name="log-in", outcome=Outcome.OK, detail=version)
    # A pooler that would break sessions or replication was refused when the session was opened.
    pooler = "one that keeps sessions apart" if connection.is_pooled else "none"
    yield Step(place=place, name="pooler", outcome=Outcome.OK, detail=pooler)


def log_in_failure(place: str, error: RosettaError) -> Step:
    """Return the step of a session that this error has ended, by what it is about."""
    is_tls = any(word in error.message for word in ("SSL", "TLS", "certificate"))
    name = "tls" if is_tls else "pooler" if "connection pooler" in error.message else "log-in"
    return failed(place, name, error)

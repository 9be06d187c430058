"""Decides, for every error of a PostgreSQL server, which of ours it is: does it pass with time, or must a person fix it?

Messages are written from names (tables, columns, constraints, conditions). The server's own text of a data error quotes the
value, so it is left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError, TerminalError, TransientError
from rosetta_dagster.cdc.postgres.remedies import (
    BYPASS_POOLER,
    is_transient,
    may_quote_values,
    remedy_of,
    transient_remedy_of,
)

_TRIED_AGAIN: Final = "It is tried again by itself."

_REPLICATION_REFUSED: Final = (
    f"A connection pooler or a proxy, which cannot pass replication on, stands before the server. {BYPASS_POOLER}"
)

_REQUIRE_AUTH: Final = (
    "The server asks for another kind of authentication than require_auth allows, and was sent no password. Give the role a "
    "password of the kind scram-sha-256; or set require_auth to what the server asks for: 'none' where it asks for nothing, "
    "'password' (in clear) only with sslmode 'verify-full'."
)

_CHANNEL_BINDING: Final = (
    "The session does not end at the server that knows the password: somebody stands in between. For a pooler or a proxy "
    "that you trust, set channel_binding to 'prefer'."
)

#: What libpq, a server or a pooler says of a refused connection when the row is wrong. It brings no SQLSTATE, only text.
_WRONG_ROW: Final = (
    ("startup parameter", _REPLICATION_REFUSED),
    ("RDS Proxy", _REPLICATION_REFUSED),
    ("authentication method requirement", _REQUIRE_AUTH),
    ("channel binding", _CHANNEL_BINDING),
    ("private key file", "Name a file in sslkey that only the worker's user may read, with the key of sslcert in PEM form."),
    ("password authentication failed", "Correct the user name or the password."),
    ("no password supplied", "Add a password to the row."),
    ("authentication failed", "Correct the user name or the password."),
    ("no such user", "Correct the user name, or add the user to the pooler."),
    ("no such database", "Correct the database, or add it to the pooler."),
    ("no pg_hba.conf entry", "Allow this user and address in the server's pg_hba.conf, or correct the row."),
    ("pg_hba.conf rejects", "Allow this user and address in the server's pg_hba.conf, or correct the row."),
    ("certificate", "Correct sslmode, sslrootcert, sslcert, or the certificates of the server."),
    ("is not currently accepting connections", "Run ALTER DATABASE … ALLOW_CONNECTIONS true, or correct the row."),
    ("does not exist", "Correct the row, or create what is missing."),
    ("is not permitted to log in", "Allow the role to log in: ALTER ROLE … LOGIN."),
    ("must be superuser or replication role", "Allow the role to replicate: ALTER ROLE … REPLICATION."),
    ("permission denied to start WAL sender", "Allow the role to replicate: ALTER ROLE … REPLICATION."),
    ("server does not support SSL", "Set sslmode to 'prefer' or 'disable', or enable TLS at the server."),
    ("permission denied for database", "Grant CONNECT on the database to the user."),
)

#: What they say when it passes with time.
_BUSY: Final = (
    (
        ("too many c", "connection slots", "no more connections allowed", "max_client_conn"),
        "Raise max_connections, or the CONNECTION LIMIT of the role or database, or end idle sessions.",
    ),
    (("starting up", "shutting down", "recovery mode", "not yet accepting"), "The server is starting or stopping."),
    (("query_wait_timeout", "server_login_retry", "server login", "pgbouncer cannot connect"),
     "The connection pooler has no session of the server to give: look at its pool_size and its log."),
)  # fmt: skip

_NO_SERVER: Final = (
    "Check host, port and network; on a worker, rosetta test and the name of the pipeline shows which is wrong."
)

#: What libpq itself says of a PostgreSQL server, a pooler or a proxy that has answered.
_OF_A_SERVER: Final = (
    *(text for text, _ in _WRONG_ROW),
    *(text for texts, _ in _BUSY for text in texts),
    "FATAL:",
    "ERROR:",
)

#: SQLSTATEs whose detail lists other objects, such as the view that depends on a column.
_DETAIL_LISTS_OBJECTS: Final = ("0A000", "2BP01", "55")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Which errors stand for a server that is away and for one that refuses."""

    #: The server in a message, as `source shop (app@db:5432/shop)`.
    who: str
    unavailable: type[TransientError]
    rejected: type[TerminalError]
    #: What a place that PostgreSQL names, as `COPY items, line 3, column id`, is called in a message.
    named: Callable[[str], str] = str
    #: Further SQLSTATEs that pass with time here.
    passing: tuple[str, ...] = ()
    #: The remedy for a refusal that this server has one of its own for; None for any other.
    remedy_for: Callable[[psycopg.Error], str | None] = lambda _: None

    @property
    def subject(self) -> str:
        """The server as the first words of a sentence."""
        return self.who[:1].upper() + self.who[1:]


@contextmanager
def translated(translation: Translation) -> Iterator[None]:
    """Turn psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, translation) from None


def translate(error: psycopg.Error, translation: Translation) -> RosettaError:
    """Return the error of ours that an error of psycopg stands for."""
    sqlstate = error.sqlstate
    if sqlstate is None:
        return _of_the_connection(error, translation)
    if sqlstate.startswith("28") or sqlstate == "3D000":
        return ConfigurationError(
            f"{translation.subject} refuses the connection: {_said(error, translation)}.", remedy_of(sqlstate)
        )
    if is_transient(sqlstate) or sqlstate.startswith(translation.passing):
        return translation.unavailable(
            f"{translation.subject} cannot go on: {_said(error, translation)}.", transient_remedy_of(sqlstate)
        )
    return translation.rejected(
        f"{translation.subject} refuses: {_said(error, translation)}.",
        translation.remedy_for(error) or remedy_of(sqlstate, error.diag.source_function),
    )


def is_passing(error: psycopg.Error) -> bool:
    """Whether the error is about the server or the connection, not about what the statement asked for."""
    return error.sqlstate is None or is_transient(error.sqlstate)


def _of_the_connection(error: psycopg.Error, translation: Translation) -> RosettaError:
    reason = _last_line(str(error))
    if _met_no_server(str(error)):
        return translation.unavailable(f"{translation.subject} cannot be reached.", f"{_NO_SERVER} {_TRIED_AGAIN}")
    # The base class itself is what psycopg raises for a connection that broke under a command.
    if not isinstance(error, psycopg.OperationalError) and type(error) is not psycopg.DatabaseError:
        return translation.rejected(
            f"{translation.subject} answers with what is not understood: {reason}.",
            "Make sure that host and port are those of a PostgreSQL server.",
        )
    for text, remedy in _WRONG_ROW:
        if text in reason:
            return ConfigurationError(f"{translation.subject} refuses the connection: {reason}.", remedy)
    remedy = next(
        (advice for texts, advice in _BUSY if any(text in reason for text in texts)), "Check host, port and network."
    )
    return translation.unavailable(f"{translation.subject} cannot be reached: {reason}.", f"{remedy} {_TRIED_AGAIN}")


def _met_no_server(text: str) -> bool:
    """Return whether no PostgreSQL server answered when a connection was to be opened.

    Why is left out, on purpose. A host without a name, a closed port, a port that nothing answers and another kind of server
    have the same message: otherwise who may choose the host could scan the network of the workers.
    """
    is_opening = text.startswith(
        ("connection failed", "connection is bad", "connection timeout", "failed to resolve", "[Errno")
    )
    # The last line is about the last attempt; those before it may be about TLS, which is tried first.
    last = text.strip().splitlines()[-1] if text.strip() else ""
    return is_opening and not any(known in last for known in _OF_A_SERVER)


def _said(error: psycopg.Error, translation: Translation) -> str:
    """What the server says, without a value of a row."""
    diagnosis, sqlstate = error.diag, error.sqlstate or ""
    is_quoting = may_quote_values(sqlstate, source_function=diagnosis.source_function, context=diagnosis.context)
    if is_quoting or not diagnosis.message_primary:
        places = _places(diagnosis)
        where = f" at {', '.join(places)}" if places else _copied_place(error, translation)
        return f"{type(error).__name__} ({sqlstate}){where}"
    detail = diagnosis.message_detail if sqlstate.startswith(_DETAIL_LISTS_OBJECTS) else None
    message = f"{diagnosis.message_primary}: {detail.rstrip('.')}" if detail else diagnosis.message_primary
    return f"{_on_one_line(message)} ({sqlstate})"


def _places(diagnosis: psycopg.errors.Diagnostic) -> list[str]:
    """The objects that the server names, each with what it is."""
    return [
        f"{kind} {name}"
        for kind, name in (
            ("table", diagnosis.table_name),
            ("column", diagnosis.column_name),
            ("constraint", diagnosis.constraint_name),
            ("type", diagnosis.datatype_name),
        )
        if name
    ]


def _copied_place(error: psycopg.Error, translation: Translation) -> str:
    """Table and column of an error inside COPY: the context names them, followed by the value."""
    context = (error.diag.context or "").partition("\n")[0]
    if not context.startswith("COPY "):
        return ""
    place, separator, _ = context.partition(": ")
    return f" at {translation.named(place)}" if separator else ""


def _last_line(text: str) -> str:
    """The server's own words; libpq puts a line for each address before them, and a guess at the cause behind them."""
    message = text.partition("This probably means")[0]
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason given").removeprefix("FATAL:").strip().rstrip(".")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())

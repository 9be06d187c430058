"""Decides, for every error of a PostgreSQL server, which of ours it is: time mends it, or a person has to.

Messages are written from names (tables, columns, constraints, conditions). The server's own text of a data error quotes the
value, so it is left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError, TerminalError, TransientError
from rosetta_dagster.cdc.postgres.watched_connection import PatientConnection

#: SQLSTATE classes and codes that time mends. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = (
    "08",  # connection
    "40",  # deadlock, serialization
    "53",  # too many connections, disk or memory full
    "57P",  # shutdown, crash, starting up
    "57014",  # canceled, by a timeout or an administrator
    "55P03",  # lock not available
    "55006",  # object in use
    "25006",  # read-only: a failover is going on
    "58",  # system error of the server's machine
)

#: What libpq says when the row is wrong. A refused connection brings no SQLSTATE, only text.
_WRONG_ROW = (
    ("password authentication failed", "Correct the user name or the password."),
    ("no password supplied", "Add a password to the row."),
    ("authentication failed", "Correct the user name or the password."),
    ("no pg_hba.conf entry", "Allow this user and address in the server's pg_hba.conf, or correct the row."),
    ("does not exist", "Correct the row, or create what is missing."),
    ("is not permitted to log in", "Allow the role to log in: ALTER ROLE … LOGIN."),
    ("server does not support SSL", "Set sslmode to 'prefer' or 'disable', or enable TLS at the server."),
    ("certificate", "Correct sslmode, or the certificates of the server."),
    ("permission denied for database", "Grant CONNECT on the database to the user."),
)

#: Classes whose primary message may quote a value of a row.
_QUOTES_VALUES = ("22", "23", "P0")

_REMEDIES = {
    "42501": "Grant the privilege to the user of this connection.",
    "23502": "Drop the NOT NULL at the destination, or correct the rows at the source.",
    "23505": "Drop the extra unique index at the destination, or the row that stands in the way.",
    "23503": "Drop the foreign key at the destination: tables are written one after the other.",
    "22": "Compare the column's type at the source and at the destination.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Which errors stand for a server that is away and for one that refuses."""

    #: The server in a message, as `source shop (app@db:5432/shop)`.
    who: str
    unavailable: type[TransientError]
    rejected: type[TerminalError]
    #: What a place that PostgreSQL names, as `COPY items, line 3, column id`, is called in a message.
    named: Callable[[str], str] = str
    #: Further SQLSTATEs that time mends here.
    passing: tuple[str, ...] = ()
    #: The remedy for a refusal that this server has one of its own for; None for any other.
    remedy_for: Callable[[psycopg.Error], str | None] = lambda _: None


@contextmanager
def translated(translation: Translation) -> Iterator[None]:
    """Turn psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, translation) from None


def connect(
    config: PostgresConnection,
    translation: Translation,
    *,
    application_name: str = "rosetta",
    is_unwanted: Callable[[], bool] = bool,
) -> "psycopg.Connection[TupleRow]":
    """A connection in autocommit mode, whose statements are canceled when they are not wanted any more.

    `ConfigurationError` when the row is wrong.
    """
    with translated(translation):
        connection = PatientConnection.open(config.conninfo(application_name=application_name))
        connection.is_unwanted = is_unwanted
        return connection


def translate(error: psycopg.Error, translation: Translation) -> RosettaError:
    """The error of ours that an error of psycopg stands for."""
    if error.sqlstate is None:
        return _of_the_connection(error, translation)
    if error.sqlstate.startswith("28") or error.sqlstate == "3D000":
        return ConfigurationError(
            f"{_sentence(translation.who)} refuses the connection: {_said(error, translation)}.", "Correct the row."
        )
    if error.sqlstate.startswith((*_TRANSIENT, *translation.passing)):
        return translation.unavailable(
            f"{_sentence(translation.who)} cannot go on: {_said(error, translation)}.", "The run restarts by itself."
        )
    return translation.rejected(
        f"{_sentence(translation.who)} refuses: {_said(error, translation)}.",
        translation.remedy_for(error) or _remedy(error.sqlstate),
    )


def is_passing(error: psycopg.Error) -> bool:
    """Whether it tells of the server or the connection, and nothing of what the statement asked for."""
    return error.sqlstate is None or error.sqlstate.startswith(_TRANSIENT)


def _of_the_connection(error: psycopg.Error, translation: Translation) -> RosettaError:
    reason = _last_line(str(error))
    # The base class itself is how psycopg calls what libpq says of a connection that broke under a command.
    if not isinstance(error, psycopg.OperationalError) and type(error) is not psycopg.DatabaseError:
        return translation.rejected(f"{_sentence(translation.who)} answers with what is not understood: {reason}.", "")
    for text, remedy in _WRONG_ROW:
        if text in reason:
            return ConfigurationError(f"{_sentence(translation.who)} refuses the connection: {reason}.", remedy)
    return translation.unavailable(
        f"{_sentence(translation.who)} cannot be reached: {reason}.",
        "Check host, port and network; it is tried again by itself.",
    )


def _said(error: psycopg.Error, translation: Translation) -> str:
    diagnosis = error.diag
    condition = type(error).__name__
    if not (error.sqlstate or "").startswith(_QUOTES_VALUES) and diagnosis.message_primary:
        return f"{diagnosis.message_primary} ({error.sqlstate})"
    places = [
        f"{kind} {name}"
        for kind, name in (
            ("table", diagnosis.table_name),
            ("column", diagnosis.column_name),
            ("constraint", diagnosis.constraint_name),
            ("type", diagnosis.datatype_name),
        )
        if name
    ]
    return f"{condition} ({error.sqlstate})" + (f" at {', '.join(places)}" if places else _copied_place(error, translation))


def _copied_place(error: psycopg.Error, translation: Translation) -> str:
    """Table and column of an error inside COPY: the context names them, followed by the value."""
    context = (error.diag.context or "").partition("\n")[0]
    if not context.startswith("COPY "):
        return ""
    place, separator, _ = context.partition(": ")
    return f" at {translation.named(place)}" if separator else ""


def _remedy(sqlstate: str) -> str:
    return _REMEDIES.get(sqlstate) or _REMEDIES.get(sqlstate[:2]) or "Look up the SQLSTATE in PostgreSQL's manual."


def _last_line(text: str) -> str:
    """The server's own words; libpq puts a line for each address before them, and a guess at the cause behind them."""
    told = text.partition("This probably means")[0]
    lines = [line.strip() for line in told.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason given").removeprefix("FATAL:").strip().rstrip(".")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

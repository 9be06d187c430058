"""Decides how Debezium is configured for a pipeline, and which sources it cannot be configured for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rosetta_dagster.cdc.config.authentication import required_auth
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.config.places import hosts_of
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.connections import TEXT_FORMS
from rosetta_dagster.cdc.source.debezium.driver_tls import tls_properties
from rosetta_dagster.cdc.source.debezium.values import CONNECTOR_PROPERTIES
from rosetta_dagster.cdc.source.heartbeat import MESSAGE_PREFIX
from rosetta_dagster.cdc.table_id import TableId

_FIXED: Mapping[str, str] = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    # The slot is the resume point; Debezium's own offsets lose rows that share an LSN (debezium/dbz#1554).
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "offset.flush.interval.ms": "0",
    "snapshot.mode": "no_data",
    # Rosetta creates and checks slot and publication.
    "publication.autocreate.mode": "disabled",
    "slot.drop.on.stop": "false",
    # A broken stream ends the engine; the run restarts it with backoff, after verifying the slot.
    "errors.max.retries": "0",
    "slot.max.retries": "0",
    "tombstones.on.delete": "false",
    # By default Debezium skips TRUNCATE.
    "skipped.operations": "none",
    # Debezium sleeps this long when there is nothing to read: longer means more latency, shorter more idle wake-ups.
    "poll.interval.ms": "10",
    # A heartbeat after a COMMIT shows that the transaction is complete, at a fraction of the cost of Debezium's transaction
    # metadata, which adds two events to each transaction.
    "heartbeat.interval.ms": "20",
    "max.batch.size": "2048",
    "max.queue.size": "4096",
    # The heap is bounded, so the queue must be, also for wide rows. As much again is on its way to Python.
    "max.queue.size.in.bytes": str(16 * 1024 * 1024),
    "status.update.interval.ms": "5000",
    "database.tcpKeepAlive": "true",
    # Seconds to wait for the rest of a message, or for an answer. Without a limit, a network that fails within a message
    # would keep Debezium from ending. A quiet stream is not affected: between messages the driver does not wait.
    "driver.socketTimeout": "20",
    "record.processing.threads": "1",
    # The slot's catalog xmin is of no use here and costs a query.
    "xmin.fetch.interval.ms": "0",
    # Each change carries its table, and nothing else about its source.
    "sourceinfo.struct.maker": "io.debezium.connector.postgresql.TableSourceInfoStructMaker",
    # Columns are stored so that a NULL stays NULL, and with the OIDs of their types.
    "memory.management.tables.class": "rosetta.debezium.RememberedTables",
}


#: Debezium puts these into a URL, a host as it is and a database without the encoding that URLs need.
_HOST: Final = re.compile(r"[a-zA-Z0-9_.-]+")
_IN_URLS: Final = "/%?+"

#: Debezium passes a publication's name without quotes, and the server folds it to lower case or splits it at these.
_NEEDS_QUOTES: Final = re.compile(r"[A-Z\s,\"']")

_REMEDY: Final = "Set pipelines.engine to PGOUTPUT."


def unsupported_settings(connection: PostgresConnection, publication_name: str) -> Iterator[ConfigurationError]:
    """Yield an error for each setting of the source that Debezium cannot use."""
    if not all(map(_HOST.fullmatch, hosts_of(connection.host))):
        yield ConfigurationError(
            f"Debezium cannot connect to the host {connection.host!r}: it takes host names and IPv4 addresses.",
            f"Correct sources.pg_host, or: {_REMEDY}",
        )
    found = [char for char in _IN_URLS if char in connection.database]
    if found:
        yield ConfigurationError(
            f"Debezium cannot connect to the database {connection.database!r}: its name has the character {found[0]}.",
            _REMEDY,
        )
    if "'" in connection.username:
        yield ConfigurationError(f"Debezium cannot connect as {connection.username!r}: the name has a quote.", _REMEDY)
    if _NEEDS_QUOTES.search(publication_name):
        yield ConfigurationError(
            f"Debezium cannot read the publication {publication_name!r}: its name needs quotes in SQL.",
            f"Rename it (ALTER PUBLICATION … RENAME TO …) and correct publication_name, or: {_REMEDY}",
        )


#: Debezium reads every table of the database when it is given no pattern. This one matches nothing.
_NO_TABLE: Final = "(?!)"


def connector_properties(
    connection: PostgresConnection,
    *,
    slot_name: str,
    publication_name: str,
    tables: Sequence[TableId],
    placeholder: str,
    options: str = "",
) -> dict[str, str]:
    """Return Debezium's properties for one pipeline. They include the password, so they must not be logged.

    The placeholder stands for values that were not sent again. No row may contain it.
    """
    return {
        **_FIXED,
        **CONNECTOR_PROPERTIES,
        "name": slot_name,
        "topic.prefix": slot_name,
        "slot.name": slot_name,
        "publication.name": publication_name,
        "table.include.list": ",".join(map(_pattern, tables)) or _NO_TABLE,
        "message.prefix.include.list": _escaped(f"{MESSAGE_PREFIX}{slot_name}"),
        "unavailable.value.placeholder": placeholder,
        "database.hostname": connection.host,
        "database.port": str(connection.port),
        "database.dbname": connection.database,
        "database.user": connection.username,
        "database.password": connection.password.get_secret_value() if connection.password else "",
        **tls_properties(connection),
        # The JDBC driver knows libpq's values.
        "driver.requireAuth": required_auth(connection.require_auth, has_password=connection.password is not None),
        # The walsender prints the values; it does not run the statements. The driver itself sets DateStyle, and TimeZone
        # to Java's own.
        "database.options": options,
        "database.initial.statements": TEXT_FORMS,
    }


def _pattern(table: TableId) -> str:
    """Return a regular expression that matches only this table. Debezium separates patterns by commas."""
    return f"{_escaped(table.namespace)}\\.{_escaped(table.name)}"


def _escaped(text: str) -> str:
    """Escape every character but ASCII letters and digits by its code, so that a comma does not split the list."""
    return "".join(char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):X}}}" for char in text)

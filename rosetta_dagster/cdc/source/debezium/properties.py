"""Decides how Debezium is configured for a pipeline."""

from collections.abc import Mapping, Sequence

from rosetta_dagster.cdc.config.pipeline import PostgresConnection, required_auth
from rosetta_dagster.cdc.source.connections import TEXT_FORMS
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
    # Slot and publication are made and checked by Rosetta.
    "publication.autocreate.mode": "disabled",
    "slot.drop.on.stop": "false",
    # A broken stream ends the engine; the run restarts it with backoff, after verifying the slot.
    "errors.max.retries": "0",
    "slot.max.retries": "0",
    "tombstones.on.delete": "false",
    # By default Debezium leaves out TRUNCATE.
    "skipped.operations": "none",
    # Latency against idle wake-ups: Debezium sleeps this long when it finds nothing to read.
    "poll.interval.ms": "10",
    # The beat behind a COMMIT tells that the transaction is complete, at a fraction of the cost of Debezium's
    # transaction metadata, which adds two events to each transaction.
    "heartbeat.interval.ms": "20",
    "max.batch.size": "2048",
    "max.queue.size": "4096",
    # Wide rows: the heap is bounded, so the queue must be. As much again is on its way to Python.
    "max.queue.size.in.bytes": str(16 * 1024 * 1024),
    "status.update.interval.ms": "5000",
    "database.tcpKeepAlive": "true",
    # Seconds that half a message, or an answer, is waited for. A network that went silent within a message would keep
    # Debezium from ending. A quiet stream is not meant: between messages nothing is waited for.
    "driver.socketTimeout": "20",
    "record.processing.threads": "1",
    # A slot's catalog horizon is no use to us and costs a query.
    "xmin.fetch.interval.ms": "0",
    # What a change tells of its source: the table.
    "sourceinfo.struct.maker": "io.debezium.connector.postgresql.TableSourceInfoStructMaker",
    # What it remembers of tables: a NULL stays one, and types are told by their numbers.
    "memory.management.tables.class": "rosetta.debezium.RememberedTables",
}


def connector_properties(
    connection: PostgresConnection,
    *,
    slot_name: str,
    publication_name: str,
    tables: Sequence[TableId],
    placeholder: str,
    options: str = "",
) -> dict[str, str]:
    """Debezium's properties for one pipeline; the password is among them, so they are never logged.

    The placeholder stands for values that were not sent again. It has to be one that no row can hold.
    """
    return {
        **_FIXED,
        **CONNECTOR_PROPERTIES,
        "name": slot_name,
        "topic.prefix": slot_name,
        "slot.name": slot_name,
        "publication.name": publication_name,
        "table.include.list": ",".join(_pattern(table) for table in tables),
        "message.prefix.include.list": _escaped(f"{MESSAGE_PREFIX}{slot_name}"),
        "unavailable.value.placeholder": placeholder,
        "database.hostname": connection.host,
        "database.port": str(connection.port),
        "database.dbname": connection.database,
        "database.user": connection.username,
        "database.password": connection.password.get_secret_value() if connection.password else "",
        "database.sslmode": connection.sslmode,
        # The JDBC driver knows libpq's values.
        "driver.requireAuth": required_auth(connection.require_auth, has_password=connection.password is not None),
        # The walsender prints the values; it does not run the statements. The driver itself sets DateStyle, and TimeZone
        # to Java's own.
        "database.options": options,
        "database.initial.statements": TEXT_FORMS,
    }


def _pattern(table: TableId) -> str:
    """A regular expression that matches just this table; Debezium separates the patterns by commas."""
    return f"{_escaped(table.namespace)}\\.{_escaped(table.name)}"


def _escaped(text: str) -> str:
    """Each character that is not a letter or digit by its code, so that commas do not split the list."""
    return "".join(char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):X}}}" for char in text)

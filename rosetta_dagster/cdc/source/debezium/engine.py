"""Runs Debezium's engine, and takes whole batches of events from it.

A call from Python to Java costs microseconds, and a call from Java to Python waits for the interpreter's lock. So Debezium's
threads never call Python: Rosetta's Java classes (`bridge/`) write each batch as a few arrays of bytes into a queue. The
thread that replicates takes it from there, and is the only Python thread that calls Java.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rosetta_dagster.cdc.errors import (
    ChangeUndecodable,
    ConfigurationError,
    EngineUnsuitable,
    RosettaError,
    StreamEnded,
)
from rosetta_dagster.cdc.source.debezium.events import Batch, Layout
from rosetta_dagster.cdc.source.debezium.jvm import leave_jvm, start_jvm
from rosetta_dagster.cdc.source.encoding import UNCHECKED
from rosetta_dagster.cdc.table_id import TableId


class Records(NamedTuple):
    """One batch from Debezium, and Java's object for committing it."""

    batch: Batch
    #: The `Batch` of the bridge.
    handle: Any

    def commit(self) -> None:
        """Let Debezium confirm the LSN of the batch's last heartbeat to PostgreSQL."""
        self.handle.commit()


class EngineThread:
    """Debezium's engine, which runs in a Java thread until `close` returns True."""

    def __init__(self, properties: Mapping[str, str], placeholder: str) -> None:
        """The placeholder is the one in the properties, which stands for values that were not sent again."""
        import jpype

        start_jvm()
        java_properties = jpype.JClass("java.util.Properties")()
        for name, value in properties.items():
            java_properties.setProperty(name, value)
        #: None once it has ended.
        self._engine: Any = jpype.JClass("rosetta.debezium.RunningEngine").start(java_properties, placeholder)
        self._layouts: dict[int, Layout] = {}

    def receive(self, timeout: float) -> Records | None:
        """Return the next batch; None when none came within the timeout. Raise why the engine ended, if it has."""
        batch = self._engine.receive(int(timeout * 1000))
        if batch is not None:
            return self._records(batch)
        if not self._engine.isAlive():
            failure = self._engine.failure()
            raise ended(None if failure is None else str(failure))
        return None

    def close(self, timeout: float) -> bool:
        """Stop the engine, and its walsender with it. Return whether it ended within the timeout."""
        if self._engine is not None and self._engine.close(int(timeout * 1000)):
            self._engine = None
        leave_jvm()
        return self._engine is None

    def _records(self, batch: Any) -> Records:
        added = {int(layout.number()): _layout(layout) for layout in batch.layouts()}
        if added:
            self._layouts = {**_latest(self._layouts), **added}
        arrays = bytes(batch.heads()), bytes(batch.values()), bytes(batch.marks())
        return Records(Batch(*arrays, self._layouts, tuple(added.values())), batch)


def _latest(layouts: Mapping[int, Layout]) -> dict[int, Layout]:
    """Return the last layout of each table: events refer to no earlier one. ANALYZE gives a table a new one, too."""
    numbers = {layout.table: number for number, layout in layouts.items()}
    return {number: layouts[number] for number in numbers.values()}


def _layout(layout: Any) -> Layout:
    table = TableId(str(layout.namespace()), str(layout.table()))
    names, types = layout.columns(), layout.types()
    return Layout(table, tuple(map(str, names)), str(layout.forms()), tuple(map(int, types)))


#: How Debezium's messages about a value that it cannot print begin. Some quote the value.
_UNPRINTABLE: Final = ("Failed to properly convert data value", "For input string", "Error converting")

#: How Debezium's message about a wrong property begins.
_MISCONFIGURED: Final = "Connector configuration is not valid. The '"

#: The server's message about a value that is not UTF-8. It quotes some bytes of the value.
_NOT_UTF8: Final = 'invalid byte sequence for encoding "UTF8"'


def ended(failure: str | None) -> RosettaError:
    """Return the error for an engine that ended by itself. Debezium's other messages quote no values."""
    reason = failure.splitlines()[0].rstrip(".") if failure else "it gave no reason"
    if reason.startswith(_UNPRINTABLE):
        return ChangeUndecodable(
            "Debezium cannot print a value that was written to one of the pipeline's tables.",
            "Set pipelines.engine to PGOUTPUT, or leave the table out. LIMITATIONS.md lists such types.",
        )
    if _NOT_UTF8 in reason:
        return EngineUnsuitable(
            "Debezium cannot read past a value that is not UTF-8, which was written to one of the pipeline's tables: the "
            f"source database has the encoding {UNCHECKED}.",
            "The run goes on with the engine PGOUTPUT, which sets only that table aside. Set pipelines.engine to PGOUTPUT.",
        )
    if reason.startswith(_MISCONFIGURED):
        return ConfigurationError(f"Debezium refuses its configuration: {reason}.", "Set pipelines.engine to PGOUTPUT.")
    return StreamEnded(
        f"Debezium ended: {reason}.", "The run restarts by itself. If it ends again, check the source's server log."
    )

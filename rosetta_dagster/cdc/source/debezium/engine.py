"""The one place that talks to Debezium: runs its engine, and hands whole batches of events over from Java.

Threads. `EngineThread` owns one Python thread, which is inside Java's `engine.run()` from `start` until the engine has
ended; Debezium has threads of its own, all ended by then. Debezium calls `handleBatch` on one of them. It leaves the
batch in a queue of two places and returns, so the conversion of the next batch overlaps with the work on this one, and
blocks when the queue is full: that is the back-pressure. It commits nothing: that is for the thread that reads the queue.
"""

import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from rosetta_dagster.cdc.errors import ChangeUndecodable, RosettaError, StreamEnded
from rosetta_dagster.cdc.source.debezium.jvm import leave_jvm, start_jvm

#: How often a blocked hand-over looks whether the engine is being closed, in seconds.
_HANDOVER_POLL = 0.2


class Records(NamedTuple):
    """One batch from Debezium: the events, and what it takes to commit them."""

    #: The events as a JSON list; null for a tombstone.
    json: bytes
    #: Java's list of the same events.
    events: Any
    committer: Any

    def offset(self, index: int, name: str) -> int | None:
        """A number of the offset that Debezium attached to an event."""
        value = self.events.get(index).sourceRecord().sourceOffset().get(name)
        return None if value is None else int(value)

    def commit(self, index: int) -> None:
        """Let Debezium confirm to PostgreSQL what this event's offset says."""
        self.committer.markProcessed(self.events.get(index))
        self.committer.markBatchFinished()


class EngineThread:
    """Debezium's engine, running."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        start_jvm()
        self._batches: queue.Queue[Records] = queue.Queue(maxsize=2)
        self._closing = threading.Event()
        self._failure: str | None = None
        self._engine = _build(properties, self._hand_over, self._note_end)
        self._thread = threading.Thread(target=self._run, name="debezium", daemon=True)
        self._thread.start()

    def receive(self, timeout: float) -> Records | None:
        """The next batch; None when there is none within the timeout. `StreamEnded` when there will be none."""
        try:
            return self._batches.get(timeout=timeout) if timeout else self._batches.get_nowait()
        except queue.Empty:
            if not self._thread.is_alive():
                raise ended(self._failure) from None
            return None

    def close(self, timeout: float) -> bool:
        """Stop the engine; whether it has ended within the timeout. The walsender ends with it.

        `close` of Debezium refuses while the engine is still starting, so it is asked until the thread has ended.
        """
        has_ended = self._end(timeout)
        if has_ended:
            # Java's engine holds its consumer, which holds this object: neither collector sees the whole circle.
            self._engine = None
        leave_jvm()
        return has_ended

    def _end(self, timeout: float) -> bool:
        import jpype

        self._closing.set()
        attempts = max(1, int(timeout / 0.25))
        for _ in range(attempts):
            if not self._thread.is_alive():
                return True
            # Not started yet, or stopping already: the thread's end is what counts.
            with suppress(jpype.JException):
                self._engine.close()
            self._thread.join(0.25)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._engine.run()
        finally:
            leave_jvm()

    def _hand_over(self, records: Records) -> None:
        while not self._closing.is_set():
            try:
                self._batches.put(records, timeout=_HANDOVER_POLL)
            except queue.Full:
                continue
            return

    def _note_end(self, failure: str | None) -> None:
        self._failure = failure


#: What Debezium says of a value that it cannot print; it names the table and column, or nothing, and sometimes the value.
_UNPRINTABLE = ("Failed to properly convert data value", "For input string", "Error converting")


def ended(failure: str | None) -> RosettaError:
    """The error for an engine that ended without being asked to."""
    reason = failure or "it gave no reason"
    if reason.startswith(_UNPRINTABLE):
        return ChangeUndecodable(
            "Debezium cannot print a value that was written to one of the pipeline's tables.",
            "Set pipelines.engine to PGOUTPUT, or leave the table out. LIMITATIONS.md lists such types.",
        )
    return StreamEnded(
        f"Debezium ended: {reason}.", "The run restarts by itself. If it ends again, look at the source's server log."
    )


def _build(properties: Mapping[str, str], hand_over: Any, note_end: Any) -> Any:
    import jpype

    engine = jpype.JClass("io.debezium.engine.DebeziumEngine")
    java_properties = jpype.JClass("java.util.Properties")()
    for name, value in properties.items():
        java_properties.setProperty(name, value)
    return (
        engine.create(jpype.JClass("io.debezium.engine.format.Json"))
        .using(java_properties)
        .using(_completion(note_end))
        .notifying(_consumer(hand_over))
        .build()
    )


def _completion(note_end: Any) -> Any:
    import jpype

    @jpype.JImplements("io.debezium.engine.DebeziumEngine$CompletionCallback")
    class Completion:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def handle(self, success: bool, message: Any, error: Any) -> None:  # noqa: FBT001 - Java's signature
            note_end(None if success else _root_cause(message, error))

    return Completion()


def _root_cause(message: Any, error: Any) -> str:
    """The innermost message of a Java exception. Debezium's own messages hold no values of rows."""
    while error is not None and error.getCause() is not None:
        error = error.getCause()
    text = error.getMessage() if error is not None else message
    return str(text).splitlines()[0].rstrip(".") if text else "no message"


def _consumer(hand_over: Any) -> Any:
    """Debezium's consumer: prints a batch as one JSON text inside Java, since each call across costs microseconds."""
    import jpype

    object_class = jpype.JClass("java.lang.Object")
    string_class = jpype.JClass("java.lang.String")
    collectors = jpype.JClass("java.util.stream.Collectors")
    function = jpype.JClass("java.util.function.Function")
    value_method = (
        jpype.JClass("java.lang.invoke.MethodHandles")
        .publicLookup()
        .findVirtual(
            jpype.JClass("io.debezium.engine.ChangeEvent"),
            "value",
            jpype.JClass("java.lang.invoke.MethodType").methodType(object_class),
        )
    )
    proxies = jpype.JClass("java.lang.invoke.MethodHandleProxies")
    value_of = jpype.JObject(proxies.asInterfaceInstance(function, value_method), function)

    @jpype.JImplements("io.debezium.engine.DebeziumEngine$ChangeConsumer")
    class Consumer:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def handleBatch(self, events: Any, committer: Any) -> None:  # noqa: N802 - Java's name
            joined = string_class(events.stream().map(value_of).collect(collectors.toList()).toString())
            hand_over(Records(bytes(joined.getBytes("UTF-8")), events, committer))

        @jpype.JOverride  # type: ignore[untyped-decorator]
        def supportsTombstoneEvents(self) -> bool:  # noqa: N802 - Java's name
            return False

    return Consumer()


def parse(records: Records) -> list[dict[str, Any] | None]:
    """The batch's envelopes, in order."""
    envelopes: list[dict[str, Any] | None] = orjson.loads(records.json)
    return envelopes

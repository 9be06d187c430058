"""The contenders behind one protocol: Rosetta with each of its engines, and PostgreSQL's native logical replication."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from bench.process import Usage, WorkerProcess
from bench.workload import Statement, Workload
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineConfig,
    PostgresConnection,
    SourceConfig,
    TableConfig,
)
from rosetta_dagster.cdc.table_id import TableId

#: Seconds between two polls of a condition; the precision of every measurement.
POLL: Final = 0.002

#: Upper limit of a measurement, in seconds.
_TIMEOUT: Final = 600.0


class Contender(Protocol):
    """One way to replicate one source database to one destination database. Its slot stays while it is stopped."""

    name: str
    destination: str
    tables: Sequence[str]

    def begin(self) -> None:
        """Create the slot, and start with the copy of the tables."""

    def is_copied(self) -> bool:
        """Return whether every table is copied."""

    def start(self) -> None:
        """Continue the stream from where it was stopped."""

    def is_streaming(self) -> bool: ...

    def usage(self) -> Usage | None:
        """Return what the process has used so far; None for a part of the server."""

    def stop(self) -> None: ...

    def remove(self) -> None:
        """Drop the slot."""


class Native:
    """PostgreSQL's native logical replication, with its default settings."""

    def __init__(
        self, source: str, destination: str, number: int, workload: Workload, *, reached_at: str | None = None
    ) -> None:
        """The subscription connects to `reached_at`, by default to the source itself."""
        self.name = "native"
        self.destination = destination
        self.tables: Sequence[str] = workload.tables
        self._source = source
        self._reached_at = reached_at or source
        self._slot = f"bench_native_{number}"
        _run(destination, workload.create)

    def begin(self) -> None:
        command = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION bench")
        _run(self.destination, command.format(sql.Identifier(self._slot), sql.Literal(make_conninfo(self._reached_at))))

    def is_copied(self) -> bool:
        query = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate IN ('f', 's', 'r')"
        return bool(_value(self.destination, query) == len(self.tables))

    def start(self) -> None:
        _run(self.destination, sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(self._slot)))

    def is_streaming(self) -> bool:
        return is_active(self._source, self._slot)

    def usage(self) -> None:
        return None

    def stop(self) -> None:
        ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'"
        wait_until(lambda: _value(self.destination, ready) == len(self.tables))
        _run(self.destination, sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(self._slot)))
        wait_until(lambda: not is_active(self._source, self._slot))

    def remove(self) -> None:
        _run(self.destination, sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(self._slot)))


class Rosetta:
    """A Rosetta worker in a process of its own, over one engine."""

    def __init__(
        self,
        source: str,
        destination: str,
        label: str,
        *,
        engine: Engine,
        logs: Path,
        tables: Sequence[str],
        publication: str | None = "bench",
        reached_at: str | None = None,
    ) -> None:
        """Without a publication's name, the worker creates its own. It connects to `reached_at` to reach the destination."""
        self.name = f"rosetta {engine.lower()}"
        self.destination = destination
        self.tables: Sequence[str] = tables
        self._source = source
        name = f"bench_{engine.lower()}_{label}"
        self._config = _pipeline(source, reached_at or destination, name, engine, tables=tables, publication=publication)
        self._log = logs / f"{self._config.name}.log"
        self._worker: WorkerProcess | None = None

    def begin(self) -> None:
        self.start()

    def is_copied(self) -> bool:
        if _value(self.destination, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('rosetta.copies')") == 0:
            return False
        query = "SELECT count(*) FROM rosetta.copies WHERE finished_at IS NOT NULL"
        return bool(_value(self.destination, query) == len(self.tables))

    def start(self) -> None:
        self._worker = WorkerProcess(self._config, self._log)

    def is_streaming(self) -> bool:
        return is_active(self._source, self._config.slot_name)

    def usage(self) -> Usage | None:
        return None if self._worker is None else self._worker.usage()

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def remove(self) -> None:
        self.stop()
        wait_until(lambda: not is_active(self._source, self._config.slot_name))
        with psycopg.connect(self._source, autocommit=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [self._config.slot_name])


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition is true."""
    deadline = time.perf_counter() + _TIMEOUT
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError("what is measured did not end in time")
        time.sleep(POLL)


def _pipeline(
    source: str, destination: str, name: str, engine: Engine, *, tables: Sequence[str], publication: str | None
) -> PipelineConfig:
    target = connection_of(destination)
    assert target.password is not None, "the embedded server has one"
    config = {**target.model_dump(exclude={"password"}), "password": target.password.get_secret_value()}
    return PipelineConfig(
        id=1,
        name=name,
        engine=engine,
        source=SourceConfig(name="source", connection=connection_of(source), publication_name=publication),
        destinations=(DestinationConfig(name="destination", type="POSTGRES", config=config),),
        tables=tuple(TableConfig(id=TableId("public", table)) for table in tables),
    )


def connection_of(url: str) -> PostgresConnection:
    parts: dict[str, Any] = conninfo_to_dict(url)
    return PostgresConnection(
        host=parts["host"],
        port=int(parts["port"]),
        database=parts["dbname"],
        username=parts["user"],
        password=SecretStr(parts["password"]),
    )


#: Connections for polling, one for each database. A new one for each poll would use CPU that is being measured.
_watchers: dict[str, "psycopg.Connection[Any]"] = {}


def _value(url: str, query: Statement) -> Any:
    if url not in _watchers:
        _watchers[url] = psycopg.connect(url, autocommit=True)
    row = _watchers[url].execute(query).fetchone()
    assert row is not None, "each of these queries returns a row"
    return row[0]


def stop_watching(url: str) -> None:
    """Close the polling connection of a database."""
    if url in _watchers:
        _watchers.pop(url).close()


def has_marker(url: str, marker: int) -> bool:
    """Return whether the destination shows the last change of a backlog."""
    return bool(_value(url, sql.SQL("SELECT EXISTS (SELECT FROM marker WHERE number = {})").format(sql.Literal(marker))))


def is_active(url: str, slot: str) -> bool:
    query = sql.SQL("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = {}")
    return bool(_value(url, query.format(sql.Literal(slot))))


def _run(url: str, statement: Statement) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)

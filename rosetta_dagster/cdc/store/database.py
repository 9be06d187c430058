"""Reads and writes the configuration database."""

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, Self, TypeAlias

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import Composed
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    Health,
    PipelineConfig,
    PipelineOptions,
    SourceConfig,
    SourceOptions,
    SourceSettings,
    Status,
    TableConfig,
    TableState,
    checked,
    default_name,
)
from rosetta_dagster.cdc.destination.registry import all_secret_names, kinds
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound
from rosetta_dagster.cdc.postgres.connections import open_session
from rosetta_dagster.cdc.postgres.errors import translated
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.connection import PROMOTION_PATIENCE, TRANSLATION, conninfo
from rosetta_dagster.cdc.store.keys import open_box
from rosetta_dagster.cdc.store.lease import Lease
from rosetta_dagster.cdc.store.migrate import migrate, read_migrations
from rosetta_dagster.cdc.store.records import (
    DestinationShape,
    PipelineShape,
    PipelineState,
    Progress,
    SourceShape,
    TableRecord,
    TableShape,
    WalSample,
)
from rosetta_dagster.cdc.store.sealed_rows import destination_places, source_place
from rosetta_dagster.cdc.store.secrets import LEGACY, SecretBox, is_encrypted
from rosetta_dagster.cdc.table_id import TableId

#: What psycopg can execute: a text of the code, or one composed from such texts and quoted names.
Query: TypeAlias = LiteralString | Composed


class Store:
    """The configuration database.

    Owns one connection, opened at first use and again after it broke, until `close`. Threads may share a store; their
    statements take turns.
    """

    def __init__(
        self, database_url: SecretStr, secret_key: SecretStr | None = None, secret_key_old: SecretStr | None = None
    ) -> None:
        self._database_url = database_url
        self._secret_key = secret_key
        self._secret_key_old = secret_key_old
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "Store()"

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def migrate(self, *, seed: bool = False) -> tuple[str, ...]:
        """Apply the missing migrations, and note the types of destinations. Return the names of what was applied."""
        types = {kind.type for kind in kinds()}
        with self.connected() as connection:
            applied = migrate(connection, read_migrations(), seed=seed)
            if missing := types - {name for (name,) in connection.execute(queries.DESTINATION_TYPES)}:
                connection.execute(queries.ADD_DESTINATION_TYPES, [sorted(missing)])
        return applied

    def shapes(self) -> list[PipelineShape]:
        """Return every pipeline as Dagster shows it, by name."""
        return [_shape(row) for row in self._rows(queries.SHAPES, {"name": None, "shown": _shown_names()})]

    def shape(self, name: str) -> PipelineShape:
        """Return a pipeline as Dagster shows it. `PipelineNotFound` when none has that name."""
        rows = self._rows(queries.SHAPES, {"name": name, "shown": _shown_names()})
        if not rows:
            raise _not_found("pipeline", name)
        return _shape(rows[0])

    def states(self) -> list[PipelineState]:
        """Return the state of every pipeline, by name."""
        return self._states(None)

    def state(self, name: str) -> PipelineState:
        """Return the state of a pipeline. `PipelineNotFound` when none has that name."""
        found = self._states(name)
        if not found:
            raise _not_found("pipeline", name)
        return found[0]

    def tables(self, name: str) -> list[TableRecord]:
        """Return the state of each table of a pipeline."""
        return [
            TableRecord(
                id=TableId(row[0], row[1]),
                state=TableState(row[2]),
                error=row[3],
                rows_copied=row[4],
                rows_applied=row[5],
                last_change_time=row[6],
                resync=row[7],
                data_version=row[8],
            )
            for row in self._rows(queries.TABLES, [name])
        ]

    def pipeline(self, name: str) -> PipelineConfig:
        """Return a pipeline with everything that it needs to run, secrets included. Secrets in clear are encrypted first."""
        rows = self._rows(queries.PIPELINE, [name])
        if not rows:
            raise _not_found("pipeline", name)
        pipeline_id, publication_name, replication_name, source_id, options = rows[0]
        config = PipelineConfig(
            **options,
            id=pipeline_id,
            name=name,
            source=self._source(source_id),
            destinations=tuple(self._destination(row) for row in self._rows(queries.DESTINATIONS, [pipeline_id])),
            tables=self.table_configs(pipeline_id),
            own_publication_name=publication_name,
            own_replication_name=replication_name,
        )
        self._refuse_shared_slot(config)
        return config

    def table_configs(self, pipeline_id: int) -> tuple[TableConfig, ...]:
        """Return the tables of a pipeline, by name."""
        return tuple(
            TableConfig(**row[5], id=TableId(row[0], row[1]), target_namespace=row[2], target_name=row[3], resync=row[4])
            for row in self._rows(queries.PIPELINE_TABLES, [pipeline_id])
        )

    def pipeline_options(self, pipeline_id: int) -> PipelineOptions | None:
        """Return the options of a pipeline; None when its row is gone."""
        rows = self._rows(queries.PIPELINE_OPTIONS, [pipeline_id])
        return PipelineOptions(**rows[0][0]) if rows else None

    def ask_resync(self, name: str, table: TableId) -> None:
        """Ask for a new copy of the table. `PipelineNotFound` when the pipeline has no such table."""
        if not self._execute(queries.ASK_RESYNC, [name, *table]):
            raise PipelineNotFound(f"There is no pipeline {name} with a table {table}.", "Look it up in pipeline_tables.")

    def resync_begun(self, pipeline_id: int, table: TableId) -> None:
        """Record that the copy of the table begins, which ends the request for it."""
        self._execute(queries.RESYNC_BEGUN, [pipeline_id, *table])

    def source(self, name: str) -> SourceConfig:
        """Return a source, password included."""
        rows = self._rows(queries.SOURCE_BY_NAME, [name])
        if not rows:
            raise _not_found("source", name)
        return self._source(rows[0][0])

    def destination(self, name: str) -> DestinationConfig:
        """Return a destination, secrets included."""
        rows = self._rows(queries.DESTINATION_BY_NAME, [name])
        if not rows:
            raise _not_found("destination", name)
        return self._destination(rows[0])

    def status(self, name: str) -> Status | None:
        """Return the wanted status of a pipeline; None when none has that name."""
        rows = self._rows(queries.STATUS, [name])
        return Status(rows[0][0]) if rows else None

    def set_status(self, name: str, status: Status, *, only_from: Status | None = None) -> bool:
        """Set the wanted status. With `only_from`, only if that is the status now. Return whether a row was changed."""
        changed = self._execute(queries.SET_STATUS, {"name": name, "status": status, "only_from": only_from})
        if not changed and only_from is None:
            raise _not_found("pipeline", name)
        return bool(changed)

    @contextmanager
    def lease(self, pipeline_id: int) -> Iterator[Lease]:
        """Hold the right to run the pipeline while the block lasts. `LeaseHeld` when another run has it."""
        lease = Lease(self._connect, pipeline_id)
        try:
            lease.check()
            yield lease
        finally:
            lease.release()

    def report_started(self, pipeline_id: int, run_id: str) -> None:
        self._execute(queries.NEW_DATA_VERSIONS, {"run_id": run_id, "pipeline_id": pipeline_id})
        self._execute(queries.STARTED, [run_id, pipeline_id])

    def report_progress(self, pipeline_id: int, run_id: str, progress: Progress) -> None:
        """Add what a run did since its last report. Nothing is written when another run has taken over."""
        with self.connected() as connection, connection.transaction():
            cursor = connection.execute(
                queries.PROGRESS,
                {
                    "pipeline_id": pipeline_id,
                    "run_id": run_id,
                    "run_status": progress.run_status,
                    "applied_lsn": str(progress.applied_lsn) if progress.applied_lsn is not None else None,
                    "lag_seconds": progress.lag_seconds,
                    "success_age": progress.success_age,
                    "copied": progress.copied,
                    "applied": progress.applied,
                },
            )
            if cursor.rowcount:
                self._add_to_tables(connection, pipeline_id, progress)

    def report_failure(self, pipeline_id: int, run_id: str | None, message: str, *, transient: bool) -> None:
        """Record why a run failed, and when the next may start."""
        self._execute(
            queries.FAILED,
            {"pipeline_id": pipeline_id, "run_id": run_id, "message": message, "transient": transient},
        )

    def retry_failed(self, names: Collection[str]) -> None:
        """End the wait of those of these pipelines that failed with a terminal error."""
        self._execute(queries.RETRY_FAILED, [list(names)])

    def report_stopped(self, pipeline_id: int, run_id: str) -> None:
        """Record that a run ended without an error."""
        self._execute(queries.STOPPED, [pipeline_id, run_id])

    def thresholds(self, name: str) -> dict[str, Any]:
        """Return the thresholds that the row of a pipeline names."""
        rows = self._rows(queries.THRESHOLDS, [name])
        return dict(rows[0][0]) if rows else {}

    def wal_sample(self, pipeline_id: int) -> WalSample:
        """Return what `report_slot` recorded last."""
        rows = self._rows(queries.WAL_SAMPLE, [pipeline_id])
        return WalSample(retained_bytes=rows[0][0], age=rows[0][1]) if rows else WalSample(retained_bytes=None, age=None)

    def report_slot(self, pipeline_id: int, slot_name: str, slot: SlotReading | None) -> None:
        """Record the state of the pipeline's slot; None when it does not exist."""
        self._execute(
            queries.SLOT,
            {
                "pipeline_id": pipeline_id,
                "slot_name": slot_name,
                "wal_status": slot.wal_status if slot else None,
                "confirmed_flush_lsn": str(slot.confirmed_flush_lsn)
                if slot and slot.confirmed_flush_lsn is not None
                else None,
                "wal_size": slot.retained_bytes if slot else None,
                "lag_bytes": slot.lag_bytes if slot else None,
                "safe_wal_size": slot.safe_wal_bytes if slot else None,
            },
        )

    def report_health(self, pipeline_id: int, health: Health) -> None:
        self._execute(queries.HEALTH, [health, pipeline_id])

    def secret_box(self) -> SecretBox:
        """Return the box that encrypts secrets. Raise when SECRET_KEY is not set, is weak, or is another one than before."""
        with self.connected() as connection:
            return open_box(connection, self._secret_key, self._secret_key_old)

    @contextmanager
    def connected(self) -> Iterator["psycopg.Connection[Any]"]:
        """Lend the connection while the block lasts. psycopg's errors in the block are translated."""
        with self._lock, translated(TRANSLATION):
            if self._connection is None or self._connection.broken:
                self._connection = self._connect()
            yield self._connection

    def _states(self, name: str | None) -> list[PipelineState]:
        with self.connected() as connection:
            rows = connection.cursor(row_factory=dict_row).execute(queries.STATES, {"name": name}).fetchall()
        return [_state(row) for row in rows]

    def _source(self, source_id: int) -> SourceConfig:
        _, name, values = self._rows(queries.SOURCE, [source_id])[0]
        if values["password"] is not None:
            values["password"] = self._clear_password(source_id, values)
        settings = checked(SourceSettings, values, f"Source {name}")
        options = {field: getattr(settings, field) for field in SourceOptions.model_fields}
        return SourceConfig(name=name, connection=settings.connection, **options)

    def _destination(self, row: Sequence[Any]) -> DestinationConfig:
        return DestinationConfig(name=row[1], type=row[2], config=self._clear_config(row[0], row[2], row[3]))

    def _clear_password(self, source_id: int, values: Mapping[str, Any]) -> str:
        box, place, text = self.secret_box(), source_place(source_id, values), str(values["password"])
        if text.startswith(LEGACY):
            # Opening the box has encrypted it again.
            text = next((str(row[2]["password"]) for row in self._rows(queries.SOURCE, [source_id])), text)
        if is_encrypted(text):
            return box.decrypt(text, place)
        where = {name: values[name] for name in ("host", "port", "username")}
        self._execute(queries.SEAL_SOURCE, {**where, "id": source_id, "clear": text, "sealed": box.encrypt(text, place)})
        return text

    def _clear_config(self, destination_id: int, type_name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config with its secrets in clear. Secrets that are in clear in the database are encrypted there."""
        places = destination_places(destination_id, type_name, config)
        if not places:
            return dict(config)
        box, texts = self.secret_box(), {field: str(config[field]) for field in places}
        if any(text.startswith(LEGACY) for text in texts.values()):
            # Opening the box has encrypted them again.
            for row in self._rows(queries.DESTINATION_CONFIG, [destination_id]):
                texts = {field: str(row[0].get(field, text)) for field, text in texts.items()}
        cleared = dict(config)
        for field, text in texts.items():
            if is_encrypted(text):
                cleared[field] = box.decrypt(text, places[field])
                continue
            given = {"id": destination_id, "type": type_name, "field": field, "clear": text, "config": Jsonb(config)}
            given |= {"sealed": box.encrypt(text, places[field]), "secrets": list(all_secret_names())}
            self._execute(queries.SEAL_DESTINATION, given)
        return cleared

    def _refuse_shared_slot(self, config: PipelineConfig) -> None:
        neighbours = self._rows(queries.NEIGHBOURS, [config.id])
        others = [name for name, slot_name in neighbours if (slot_name or default_name(name)) == config.slot_name]
        if others:
            raise ConfigurationError(
                f"Pipeline {config.name} has the same replication slot as {', '.join(others)}: {config.slot_name}.",
                "A slot serves one pipeline: set pipelines.replication_name to another name, or to NULL everywhere.",
            )

    def _add_to_tables(self, connection: "psycopg.Connection[Any]", pipeline_id: int, progress: Progress) -> None:
        for table, done in progress.tables.items():
            connection.execute(
                queries.TABLE_PROGRESS,
                {
                    "pipeline_id": pipeline_id,
                    "namespace": table.namespace,
                    "name": table.name,
                    "state": done.state,
                    "error": done.error,
                    "copied": done.copied,
                    "applied": done.applied,
                    "last_change_at": done.last_change_at,
                    "data_version": done.data_version,
                },
            )

    def _rows(self, query: Query, parameters: Any = None) -> list[Any]:
        with self.connected() as connection:
            return connection.execute(query, parameters).fetchall()

    def _execute(self, query: Query, parameters: Any) -> int:
        with self.connected() as connection:
            return connection.execute(query, parameters).rowcount

    def _connect(self) -> "psycopg.Connection[Any]":
        return open_session(conninfo(self._database_url), TRANSLATION, promotion_patience=PROMOTION_PATIENCE)


def _shape(row: Sequence[Any]) -> PipelineShape:
    name, engine, source, host, port, database, username, destinations, tables = row
    return PipelineShape(
        name=name,
        engine=Engine(engine),
        source=SourceShape(name=source, host=host, port=port, database=database, username=username),
        destinations=tuple(_destination_shape(*destination) for destination in destinations),
        tables=tuple(TableShape(id=TableId(t[0], t[1]), target_namespace=t[2], target_name=t[3]) for t in tables),
    )


def _destination_shape(name: str, type_name: str, shown: str | None) -> DestinationShape:
    connection = {key: value for key, value in json.loads(shown or "{}").items() if value is not None}
    return DestinationShape(name=name, type=type_name, namespace=connection.pop("schema", None), connection=connection)


def _shown_names() -> list[str]:
    """Return the settings of destinations that may leave the database undecrypted."""
    return ["schema", *dict.fromkeys(name for kind in kinds() for name in kind.shown_names)]


def _state(row: dict[str, Any]) -> PipelineState:
    return PipelineState(
        **{
            **row,
            "destinations": tuple(row["destinations"]),
            "table_errors": tuple(row["table_errors"]),
            "status": Status(row["status"]),
            "health": Health(row["health"]),
        }
    )


def _not_found(kind: str, name: str) -> PipelineNotFound:
    return PipelineNotFound(f"There is no {kind} {name}.", "Look up the names in the configuration database.")

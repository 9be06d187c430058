"""Reads what a run needs of pipelines, sources and destinations; encrypts secrets that a row still has in clear."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineConfig,
    PipelineOptions,
    SourceConfig,
    SourceOptions,
    SourceSettings,
    TableConfig,
    checked,
    default_name,
)
from rosetta_dagster.cdc.destination.registry import all_secret_names
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.patterns import read_patterns
from rosetta_dagster.cdc.store.sealed_rows import destination_places, source_place
from rosetta_dagster.cdc.store.secrets import LEGACY, is_encrypted
from rosetta_dagster.cdc.store.session import StoreSession, not_found
from rosetta_dagster.cdc.table_id import TableId


class Definitions(StoreSession):
    """Pipelines, sources and destinations with their secrets."""

    def pipeline(self, name: str) -> PipelineConfig:
        """Return a pipeline with everything that it needs to run, secrets included. Secrets in clear are encrypted first."""
        rows = self._rows(queries.PIPELINE, [name])
        if not rows:
            raise not_found("pipeline", name)
        pipeline_id, publication_name, replication_name, source_id, options = rows[0]
        config = PipelineConfig(
            **options,
            id=pipeline_id,
            name=name,
            source=self._source(source_id),
            destinations=tuple(self._destination(row) for row in self._rows(queries.DESTINATIONS, [pipeline_id])),
            tables=self.table_configs(pipeline_id),
            paused=self.table_configs(pipeline_id, paused=True),
            patterns=self.pattern_configs(pipeline_id),
            own_publication_name=publication_name,
            own_replication_name=replication_name,
        )
        self._refuse_shared_slot(config)
        return config

    def table_configs(self, pipeline_id: int, *, paused: bool = False) -> tuple[TableConfig, ...]:
        """Return the tables of a pipeline that are replicated, or those that are paused, by name."""
        return tuple(
            TableConfig(
                **options,
                id=TableId(namespace, name),
                target_namespace=target_namespace,
                target_name=target_name,
                resync=resync,
                by_pattern=by_pattern,
            )
            for namespace, name, target_namespace, target_name, resync, by_pattern, options in self._rows(
                queries.PIPELINE_TABLES, [pipeline_id, paused]
            )
        )

    def pattern_configs(self, pipeline_id: int) -> tuple[TableConfig, ...]:
        """Return the patterns of a pipeline, by name. `ConfigurationError` when one has options that do not exist."""
        with self.connected() as connection:
            return read_patterns(connection, pipeline_id)

    def pipeline_options(self, pipeline_id: int) -> PipelineOptions | None:
        """Return the options of a pipeline; None when its row is gone."""
        rows = self._rows(queries.PIPELINE_OPTIONS, [pipeline_id])
        return PipelineOptions(**rows[0][0]) if rows else None

    def source(self, name: str) -> SourceConfig:
        """Return a source, password included."""
        rows = self._rows(queries.SOURCE_BY_NAME, [name])
        if not rows:
            raise not_found("source", name)
        return self._source(rows[0][0])

    def destination(self, name: str) -> DestinationConfig:
        """Return a destination, secrets included."""
        rows = self._rows(queries.DESTINATION_BY_NAME, [name])
        if not rows:
            raise not_found("destination", name)
        return self._destination(rows[0])

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
        where = {name: values[name] for name in ("host", "port", "username", "sslrootcert")}
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

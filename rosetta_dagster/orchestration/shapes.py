"""Decides which pipelines a code location defines: those of the rows, or of saved rows, and those that code declares."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import TypeAdapter, ValidationError

from rosetta_dagster.cdc.config.patterns import is_matched, is_pattern
from rosetta_dagster.cdc.config.pipeline import SourceSettings
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape, SourceShape, TableShape
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.declarations import Pipeline, Table
from rosetta_dagster.orchestration.resources import DestinationResource, PostgresSource, known_value
from rosetta_dagster.settings import Settings, configured_store

_logger = logging.getLogger(__name__)

_SHAPES: TypeAdapter[list[PipelineShape]] = TypeAdapter(list[PipelineShape])


def known_shapes(settings: Settings) -> list[PipelineShape]:
    """Return the pipelines of the configuration database; those that were saved last while it cannot be read.

    Nothing is written, and nothing is migrated: every process that loads code calls this, those of CI and of branches too.
    """
    if settings.config_database_url is None:
        return []
    try:
        with configured_store(settings) as store:
            return store.shapes()
    except RosettaError as error:
        # A location that fails to load has no sensor left to load it again.
        _logger.warning("Pipelines are defined as they were saved last. %s", error)
        return _saved(settings)


def with_declared(
    rows: Sequence[PipelineShape], pipelines: Sequence[Pipeline], include: Sequence[str] | None = None
) -> list[PipelineShape]:
    """Return the pipelines by name. One that the code declares is as declared, whether or not its row is so yet.

    With `include`, only rows whose names match one of these patterns are among them.
    """
    known = {row.name: row for row in rows}
    by_name = {
        name: row for name, row in known.items() if include is None or any(fnmatchcase(name, each) for each in include)
    }
    by_name |= {each.name: _with_matched(_shape(each), each, known.get(each.name)) for each in pipelines}
    return [by_name[name] for name in sorted(by_name)]


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def save_shapes(settings: Settings, rows: Sequence[PipelineShape]) -> None:
    """Save the pipelines under DAGSTER_HOME, if it is set, for loads while the configuration database is down."""
    path = _state_path(settings)
    if path is None:
        return
    content = _SHAPES.dump_json(list(rows))
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = path.with_suffix(f".{os.getpid()}")
    written.write_bytes(content)
    written.replace(path)


def _saved(settings: Settings) -> list[PipelineShape]:
    path = _state_path(settings)
    try:
        return [] if path is None else _SHAPES.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return []


def _state_path(settings: Settings) -> Path | None:
    """Return the file of this configuration database. Its name has nothing of the password."""
    home, url = os.environ.get("DAGSTER_HOME"), settings.config_database_url
    if not home or url is None:
        return None
    parts = urlsplit(url.get_secret_value())
    options = sorted((name, value) for name, value in parse_qsl(parts.query) if "password" not in name)
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}{urlencode(options)}"
    return Path(home) / "rosetta" / f"pipelines-{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"


def _shape(pipeline: Pipeline) -> PipelineShape:
    tables = [Table(table) if isinstance(table, str) else table for table in pipeline.tables]
    tables = [table for table in tables if not is_pattern(table.id)]
    return PipelineShape(
        name=pipeline.name,
        engine=pipeline.engine,
        source=_source_shape(pipeline.source),
        destinations=tuple(sorted(map(_destination_shape, pipeline.destinations), key=lambda each: each.name)),
        tables=tuple(sorted(map(_table_shape, tables), key=lambda each: each.id)),
    )


def _with_matched(declared: PipelineShape, pipeline: Pipeline, row: PipelineShape | None) -> PipelineShape:
    """Return the declared pipeline with the tables that its patterns have found: only the rows know these."""
    patterns = [table for table in map(_id_of, pipeline.tables) if is_pattern(table)]
    named = {table.id for table in declared.tables}
    found = [
        table
        for table in (row.tables if row is not None else ())
        if table.is_by_pattern
        and table.id not in named
        and is_matched(table.id, patterns)
        and not is_matched(table.id, pipeline.excluded)
    ]
    return replace(declared, tables=tuple(sorted([*declared.tables, *found], key=lambda each: each.id)))


def _source_shape(source: PostgresSource) -> SourceShape:
    port = str(known_value(source, "port"))
    return SourceShape(
        name=source.name,
        host=known_value(source, "host"),
        # Shown as the default until its variable is set.
        port=int(port) if port.isdecimal() else SourceSettings.model_fields["port"].default,
        database=known_value(source, "database"),
        username=known_value(source, "username"),
    )


def _destination_shape(destination: DestinationResource) -> DestinationShape:
    given = {**destination.options, **{name: known_value(destination, name) for name in destination.given()}}
    shown = {name: value for name, value in given.items() if name in destination.kind.shown_names}
    namespace = given.get("namespace", given.get("schema"))
    return DestinationShape(name=destination.name, type=destination.kind.type, namespace=namespace, connection=shown)


def _id_of(table: str | Table) -> TableId:
    return TableId.parse(table) if isinstance(table, str) else table.id


def _table_shape(table: Table) -> TableShape:
    target = table.declared_target()
    return TableShape(id=table.id, target_namespace=target.namespace, target_name=target.name)

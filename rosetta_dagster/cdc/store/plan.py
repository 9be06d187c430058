"""Decides how the rows of the configuration database differ from what code declares, and brings them in line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineOptions,
    SourceConfig,
    SourceOptions,
    TableOptions,
)
from rosetta_dagster.cdc.destination.registry import all_secret_names, kind_of
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound, SecretUnreadable
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.columns import parameters
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    OwnNames,
    Target,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.cdc.table_id import TableId


class _Table(NamedTuple):
    """What is declared of a table, or of a pattern."""

    target: Target
    options: TableOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """Everything that the code of one code location declares."""

    sources: tuple[DeclaredSource, ...] = ()
    destinations: tuple[DeclaredDestination, ...] = ()
    pipelines: tuple[DeclaredPipeline, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row that differs from the code."""

    kind: Literal["source", "destination", "pipeline"]
    name: str
    action: Literal["add", "change", "pause"]
    #: A line for each setting that differs. The line of a secret does not show its value.
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.action} {self.kind} {self.name}", *(f"    {detail}" for detail in self.details)])


def plan(store: Store, declarations: Declarations, *, location: str | None = None) -> list[Difference]:
    """Return what differs from the code, in the order in which it is changed.

    Pipelines that the code location no longer declares are to be paused. Without `location` it is the one that declared
    these pipelines last.
    """
    return [*changes(store, declarations), *_removed(store, declarations.pipelines, location)]


def declare(store: Store, declarations: Declarations) -> list[Difference]:
    """Bring the rows in line with the code. Return what was changed. Rows that are as declared are not touched.

    The status of a pipeline that exists belongs to the operator. What the code no longer declares is left to
    `release_removed`, which has to know the code location.
    """
    found = changes(store, declarations)
    changed = {(change.kind, change.name) for change in found}
    for source in declarations.sources:
        if ("source", source.name) in changed:
            put_source(store, source)
    for destination in declarations.destinations:
        if ("destination", destination.name) in changed:
            put_destination(store, destination)
    for pipeline in declarations.pipelines:
        if ("pipeline", pipeline.name) in changed:
            put_pipeline(store, pipeline)
    return found


def declared_elsewhere(store: Store, location: str, declared: Sequence[str]) -> dict[str, ConfigurationError]:
    """Return why those of these pipelines are left alone that the code of another code location declares."""
    rows = _rows(store, queries.DECLARED_ELSEWHERE, {"location": location, "declared": list(declared)})
    return {
        name: ConfigurationError(
            f"Code location {other} declares pipeline {name} too, so this one leaves it alone.",
            "Let one of them declare it. If the code location was renamed, run: "
            + queries.FORGET_LOCATION.format(sql.Literal(name)).as_string(None),
        )
        for name, other in rows
    }


def release_removed(store: Store, location: str, declared: Sequence[str]) -> list[str]:
    """Record what this code location declares, and pause what it no longer declares. Return the names of the paused.

    A pipeline that another code location declares stays with that one.
    Each is paused once. From then on its row belongs to the operator, who may start it again or drop it.
    """
    with store.connected() as connection, connection.transaction():
        connection.execute(queries.NOTE_LOCATION, {"location": location, "declared": list(declared)})
        rows = connection.execute(queries.RELEASE_REMOVED, {"location": location, "declared": list(declared)}).fetchall()
    return [str(name) for (name,) in rows]


def changes(store: Store, declarations: Declarations) -> list[Difference]:
    """Return the rows that are missing or differ. Rows that are not declared are left out."""
    shapes = {shape.name: shape for shape in store.shapes()}
    rows = {
        name: {"managed_by": managed_by, **OwnNames(*names)._asdict(), **options, **thresholds}
        for name, managed_by, *names, thresholds, options in _rows(store, queries.DECLARED)
    }
    tables: dict[str, dict[TableId, _Table]] = {}
    for name, namespace, table, *target, values in _rows(store, queries.DECLARED_TABLES):
        tables.setdefault(name, {})[TableId(namespace, table)] = _Table(Target(*target), TableOptions(**values))
    found = [
        *(_source_change(store, source) for source in declarations.sources),
        *(_destination_change(store, destination) for destination in declarations.destinations),
        *(
            _pipeline_change(shapes.get(pipeline.name), rows.get(pipeline.name, {}), tables.get(pipeline.name, {}), pipeline)
            for pipeline in declarations.pipelines
        ),
    ]
    return [difference for difference in found if difference is not None]


def _removed(store: Store, pipelines: Sequence[DeclaredPipeline], location: str | None) -> list[Difference]:
    names = [pipeline.name for pipeline in pipelines]
    rows = _rows(store, queries.TO_RELEASE, {"location": location, "declared": names})
    return [
        Difference(kind="pipeline", name=name, action="pause", details=(f"status: {status} -> PAUSE",))
        for name, status in rows
    ]


def _source_change(store: Store, wanted: DeclaredSource) -> Difference | None:
    try:
        present: SourceConfig = store.source(wanted.name)
    except PipelineNotFound:
        return Difference(kind="source", name=wanted.name, action="add", details=(wanted.connection.describe(),))
    except SecretUnreadable:
        return _difference("source", wanted.name, ["password: another one"])
    before = present.connection.model_dump(exclude={"password"}) | _options_of(present)
    after = wanted.connection.model_dump(exclude={"password"}) | _options_of(wanted)
    details = [*_fields(before, after)]
    if present.connection.password != wanted.connection.password:
        details.append("password: another one")
    return _difference("source", wanted.name, details)


def _options_of(source: SourceConfig | DeclaredSource) -> dict[str, Any]:
    return dict(parameters(SourceOptions, source))


def _destination_change(store: Store, wanted: DeclaredDestination) -> Difference | None:
    try:
        present: DestinationConfig = store.destination(wanted.name)
    except PipelineNotFound:
        return Difference(kind="destination", name=wanted.name, action="add", details=(wanted.type,))
    except SecretUnreadable:
        return _difference("destination", wanted.name, ["secrets: others"])
    kind, secrets = kind_of(wanted.type, wanted.name), all_secret_names()
    before = {"type": present.type, **kind.without_defaults(present.config)}
    after = {"type": wanted.type, **kind.without_defaults(wanted.config)}
    details = [*_fields(_public(before), _public(after))]
    details += [f"{field}: another one" for field in secrets if before.get(field) != after.get(field)]
    return _difference("destination", wanted.name, details)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in config.items() if field not in all_secret_names()}


def _pipeline_change(
    present: PipelineShape | None,
    row: Mapping[str, Any],
    tables: Mapping[TableId, _Table],
    wanted: DeclaredPipeline,
) -> Difference | None:
    if present is None:
        names = tuple(f"table {table}" for table in wanted.tables)
        return Difference(kind="pipeline", name=wanted.name, action="add", details=(f"status: {wanted.status}", *names))
    before = {
        "source": present.source.name,
        "destinations": ", ".join(sorted(destination.name for destination in present.destinations)),
        **row,
    }
    after = {
        "source": wanted.source,
        "destinations": ", ".join(sorted(wanted.destinations)),
        "managed_by": wanted.managed_by,
        **parameters(PipelineOptions, wanted),
        **wanted.thresholds.model_dump(exclude_defaults=True),
        **(
            OwnNames(row["publication_name"], row["replication_name"]) if wanted.own_names is None else wanted.own_names
        )._asdict(),
    }
    details = [*_fields(before, after), *_table_changes(tables, wanted)]
    return _difference("pipeline", wanted.name, details)


def _table_changes(before: Mapping[TableId, _Table], wanted: DeclaredPipeline) -> Iterator[str]:
    """Yield what differs of tables and of patterns. The tables that patterns have found are not declared."""
    after = {
        table: _Table(wanted.targets.get(table, Target()), wanted.table_options.get(table, TableOptions()))
        for table in wanted.tables
    }
    for table in sorted(before.keys() | after.keys()):
        if table not in before:
            yield f"table {table}: added"
        elif table not in after:
            yield f"table {table}: removed"
        else:
            was, now = before[table], after[table]
            if was.target != now.target:
                yield f"table {table}: {_target_text(table, was.target)} -> {_target_text(table, now.target)}"
            for difference in _fields(parameters(TableOptions, was.options), parameters(TableOptions, now.options)):
                yield f"table {table}: {difference}"


def _target_text(table: TableId, target: Target) -> str:
    return ".".join(filter(None, [target.namespace, target.name or table.name]))


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for field in sorted(before.keys() | after.keys()):
        if before.get(field) != after.get(field):
            yield f"{field}: {_shown(before.get(field))} -> {_shown(after.get(field))}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _difference(kind: Literal["source", "destination", "pipeline"], name: str, details: Sequence[str]) -> Difference | None:
    return Difference(kind=kind, name=name, action="change", details=tuple(details)) if details else None


def _rows(store: Store, query: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    with store.connected() as connection:
        return connection.execute(query, parameters).fetchall()

"""Decides which kinds of destination exist. A further kind is a folder, and a line in `_KINDS` or a call of `register`."""

from collections.abc import Mapping
from typing import Any

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig
from rosetta_dagster.cdc.config.wording import nearest
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.postgres.kind import POSTGRES
from rosetta_dagster.cdc.destination.snowflake.kind import SNOWFLAKE
from rosetta_dagster.cdc.errors import ConfigurationError

_KINDS = [
    POSTGRES,
    SNOWFLAKE,
]


def register(kind: DestinationKind) -> None:
    """Add a kind, or replace the one of its type. Call it before definitions are loaded or a command is run."""
    _KINDS[:] = [*(each for each in _KINDS if each.type != kind.type), kind]


def unregister(kind: DestinationKind) -> None:
    """Remove a kind again, as a test does."""
    _KINDS[:] = [each for each in _KINDS if each != kind]


def kinds() -> tuple[DestinationKind, ...]:
    """Return every kind, in the order of registration."""
    return tuple(_KINDS)


def kind_of(type_name: str, destination: str) -> DestinationKind:
    """Return the kind of a destination's row. `ConfigurationError` when this process does not know the type."""
    for kind in _KINDS:
        if kind.type == type_name:
            return kind
    near = nearest(type_name, [kind.type for kind in _KINDS])
    known = ", ".join(sorted(kind.type for kind in _KINDS))
    raise ConfigurationError(
        f"Destination {destination} is of type {type_name}, which this version of Rosetta cannot write to.",
        f"Did you mean {near}? Use one of: {known}." if near else f"Use one of: {known}.",
    )


def place_of(type_name: str, settings: Mapping[str, Any]) -> str:
    """Return who connects to where; a question mark for what is not known here."""
    return next((kind.place(settings) for kind in _KINDS if kind.type == type_name), "?")


def all_secret_names() -> tuple[str, ...]:
    """Return the settings that are secret at any kind of destination."""
    return tuple(dict.fromkeys(name for kind in _KINDS for name in kind.secret_names))


def make_destination(config: DestinationConfig, pipeline: PipelineConfig) -> Destination:
    """Return the destination of the pipeline, not connected yet."""
    return kind_of(config.type, config.name).make(config, pipeline)

"""Declares a kind of destination: everything that the rest of Rosetta derives from it, and nothing that loads a driver."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

from pydantic import BaseModel

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, TableConfig, checked
from rosetta_dagster.cdc.config.surfaces import secret_names, shown_names
from rosetta_dagster.cdc.connection_steps import Step
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.grants import Grants

_Settings: TypeAlias = type[BaseModel]


class Factory(Protocol):
    """The module of a kind that knows its driver. Its functions take settings that are valid."""

    def make(self, name: str, settings: Any, pipeline: PipelineConfig) -> Destination:
        """Return the destination of the pipeline, not connected yet."""

    def session(self, name: str, settings: Any) -> AbstractContextManager[Any]:
        """Open a session for a user's own statements, in autocommit mode, closed with the block."""

    def describe(self, settings: Any) -> str:
        """Return the place for a message, without a secret. `ConfigurationError` when a key cannot be used."""

    def steps(self, name: str, settings: Any, tables: Sequence[TableConfig]) -> Iterator[Step]:
        """Test the connection up to a write, and yield each step when it is done. Nothing that it makes remains."""


@dataclass(frozen=True, kw_only=True)
class DestinationKind:
    """One kind of destination. Its folder holds this, its settings and its factory."""

    #: The settings in `destinations.config`. Secrets are typed `SecretStr`; what everybody may see is marked `SHOWN`.
    settings: _Settings
    #: As `destinations.type` has it.
    type: str
    #: Its name in texts.
    title: str
    #: Class name of its Dagster resource.
    resource: str
    #: What the resource and the command are about, in one sentence.
    description: str
    #: Whether its rows are compared and repaired by value: `reconcile` does that in the SQL of PostgreSQL or Snowflake.
    is_reconciled: bool = False
    #: Names who connects to where, from settings that may be incomplete or wrong.
    place: Callable[[Mapping[str, Any]], str]
    #: Writes the statements that give the role of a row what it needs for these tables.
    grants: Callable[[DestinationConfig, Sequence[TableConfig]], Grants]
    #: Name of the `Factory` module. It is imported at first use, since it loads a driver.
    factory: str
    #: The extra of this package that installs the driver; None when every installation has it.
    extra: str | None = None

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The settings that are encrypted in the configuration database."""
        return secret_names(self.settings)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The settings that everybody may see."""
        return shown_names(self.settings)

    def make(self, row: DestinationConfig, pipeline: PipelineConfig) -> Destination:
        """Return the destination of the pipeline, not connected yet. `ConfigurationError` when its row is not valid."""
        return self._factory.make(row.name, self.checked(row.name, row.config), pipeline)

    def session(self, name: str, config: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Open a session for a user's own statements, in autocommit mode, closed with the block."""
        return self._factory.session(name, self.checked(name, config))

    def steps(self, row: DestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:
        """Test the connection of a row, and yield each step. `ConfigurationError` when the row is not valid."""
        return self._factory.steps(row.name, self.checked(row.name, row.config), tables)

    def describe(self, name: str, config: Mapping[str, Any]) -> str:
        """Return the place for a message. `ConfigurationError` when the settings or a key cannot be used."""
        return self._factory.describe(self.checked(name, config))

    def checked(self, name: str, config: Mapping[str, Any]) -> Any:
        """Return the settings of the kind. `ConfigurationError` names each one that is wrong."""
        return checked(self.settings, dict(config), f"The config of destination {name}")

    def without_defaults(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config without what it would be anyway, so that two of one meaning are equal."""
        defaults = {
            field.alias or name: field.default
            for name, field in self.settings.model_fields.items()
            if not field.is_required()
        }
        return {name: value for name, value in config.items() if name not in defaults or value != defaults[name]}

    @property
    def _factory(self) -> Factory:
        """The factory. `ConfigurationError` when its driver is not installed."""
        try:
            return cast(Factory, import_module(self.factory))
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            raise ConfigurationError(
                f"{self.title} destinations need the package {error.name}, which is not installed.",
                f"Run: pip install 'rosetta-dagster[{self.extra}]'",
            ) from None

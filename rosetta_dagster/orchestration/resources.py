"""Sources and destinations as Dagster resources: they open connections, and hold no secret.

A resource has the settings that its source or kind of destination declares. The class of a kind is made from them.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import dagster as dg
from pydantic import BaseModel, Field, SecretStr, ValidationError, create_model
from pydantic.fields import FieldInfo

from rosetta_dagster.cdc.config.pipeline import PostgresConnection, SourceOptions, SourceSettings, checked
from rosetta_dagster.cdc.config.surfaces import Fields, binding, public_fields, secret_names
from rosetta_dagster.cdc.config.variables import Reader, read_for_code
from rosetta_dagster.cdc.config.wording import problems, unknown
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound
from rosetta_dagster.cdc.operate.sessions import PostgresSession, SnowflakeSession, source_session
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredSource
from rosetta_dagster.cdc.store.secrets import moved
from rosetta_dagster.settings import open_store

_CORRECT = "Correct the code that declares it."

#: How a setting names the environment variable of a secret.
_ENV: Final = "_env"


def place_of(secret: str) -> str:
    """Return the name of a secret's field for a message."""
    return secret.replace("_", " ")


def reached_by(settings: type[BaseModel], given: Mapping[str, Any], owner: str, read: Reader) -> dict[str, Any]:
    """Replace the names of variables by the secrets that they hold, and leave out what is not given."""
    values = {key: value for key, value in given.items() if value is not None}
    for secret in secret_names(settings):
        if (variable := values.pop(f"{secret}{_ENV}", None)) is not None:
            values[secret] = read(variable, owner, place_of(secret))
    return values


class Resource(dg.ConfigurableResource[Any]):
    """A source or a destination.

    A secret is named, not given: Dagster stores and shows what a resource is made of. `password_env="SHOP_PASSWORD"` and
    `password=dagster.EnvVar("SHOP_PASSWORD")` are the same. Without either, it is that of the row in the configuration
    database.
    """

    #: The settings that this resource has.
    settings: ClassVar[type[BaseModel]]

    name: str = Field(description="Name of the row in the configuration database.")

    def __init__(self, **fields: Any) -> None:
        given = _with_named_secrets(self.settings, fields)
        self._verify(given)
        super().__init__(**given)

    @classmethod
    def of_row(cls, **fields: Any) -> Self:
        """Return the resource of a row that may be wrong: what it cannot have is left out."""
        accepted = dict(fields)
        for name, value in fields.items():
            try:
                cls._verify({name: value})
            except ConfigurationError:
                del accepted[name]
        resource = cls.__new__(cls)
        blank = {name: "" for name, field in cls.model_fields.items() if field.is_required()}
        dg.ConfigurableResource.__init__(resource, **{**blank, **accepted})
        return resource

    def given(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults, by name. A secret is the name of its variable."""
        fields = public_fields(self.settings)
        return {name: getattr(self, name) for name in fields if _default(fields[name][1]) != getattr(self, name)}

    def resolved(self) -> dict[str, Any]:
        """Return the same with the values of `dagster.EnvVar`. `ConfigurationError` when a variable is not set."""
        return {name: _resolved(self, name) for name in self.given()}

    def __repr__(self) -> str:
        # The default prints every field, with the values that environment variables resolve to.
        return f"{type(self).__name__}({self.name})"

    @classmethod
    def _verify(cls, given: Mapping[str, Any]) -> None:
        """`ConfigurationError` when one of these is no setting, or has a value that it cannot have."""
        place = f"{cls.__name__} {given.get('name', '')}".strip()
        known = list(cls.model_fields)
        if wrong := [unknown(name, known) for name in given if name not in cls.model_fields]:
            raise ConfigurationError(f"{place} is not valid: {'; '.join(wrong)}.", _CORRECT)
        settings = _public_settings(cls.settings)
        now = {
            name: value for name, value in given.items() if name in settings.model_fields and not _is_resolved_later(value)
        }
        try:
            settings.model_validate(now)
        except ValidationError as error:
            raise ConfigurationError(f"{place} is not valid: {problems(error, settings)}.", _CORRECT) from None

    @property
    def _names_a_secret(self) -> bool:
        """Whether a secret is given here, as a variable or as a path."""
        ways = [f"{secret}{way}" for secret in secret_names(self.settings) for way in (_ENV, "_path")]
        return any(getattr(self, way, None) is not None for way in ways)


class PostgresSourceBase(Resource):
    """The behaviour of `PostgresSource`."""

    settings: ClassVar[type[BaseModel]] = SourceSettings

    def connect(self) -> AbstractContextManager[PostgresSession]:
        """Open a connection in autocommit mode, closed with the block."""
        return source_session(self.connection())

    def connection(self) -> PostgresConnection:
        """Return where to connect, password included."""
        return self._checked().connection

    def declared(self) -> DeclaredSource:
        """Return the row of the source, its password included."""
        settings = self._checked()
        options = {name: getattr(settings, name) for name in SourceOptions.model_fields}
        return DeclaredSource(name=self.name, connection=settings.connection, **options)

    def _checked(self) -> SourceSettings:
        values = reached_by(self.settings, self.resolved(), self.name, read_for_code)
        if not self._names_a_secret:
            values["password"] = self._stored_password(values)
        return checked(SourceSettings, values, f"Resource {self.name}", _CORRECT)

    def _stored_password(self, values: Mapping[str, Any]) -> SecretStr | None:
        with open_store() as store:
            stored = store.source(self.name).connection
        _refuse_moved(self, stored.model_dump(), values)
        return stored.password


class DestinationResource(Resource):
    """A destination of any kind."""

    kind: ClassVar[DestinationKind]

    options: dict[str, Any] = Field(default_factory=dict, description="Further settings, as destinations.config has them.")

    def __init__(self, **fields: Any) -> None:
        if planted := fields.get("options", {}).keys() & {*self.kind.secret_names}:
            raise ConfigurationError(
                f"The options of destination {fields.get('name')} hold {min(planted)}, and Dagster would store and show it.",
                f"Name an environment variable: {min(planted)}_env.",
            )
        super().__init__(**fields)

    def connect(self) -> AbstractContextManager[Any]:
        """Open a session in autocommit mode, closed with the block. Without a secret here, that of the row is used."""
        return self.kind.session(self.name, self.config())

    def config(self) -> dict[str, Any]:
        """Return `destinations.config`, secrets included. `ConfigurationError` when it is not complete."""
        given = self.resolved()
        if (namespace := given.pop("namespace", None)) is not None:
            given["schema"] = namespace
        config = reached_by(self.settings, {**self.options, **given}, self.name, read_for_code)
        if not self._names_a_secret:
            config |= self._stored_secrets(config)
        self.kind.checked(self.name, config)
        return config

    def declared(self) -> DeclaredDestination:
        """Return the row of the destination."""
        return DeclaredDestination(name=self.name, type=self.kind.type, config=self.config())

    def _stored_secrets(self, config: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with open_store() as store:
                stored = store.destination(self.name).config
        except PipelineNotFound:
            return {}
        _refuse_moved(self, stored, config)
        ways = (name for secret in self.kind.secret_names for name in (secret, f"{secret}_path", f"{secret}{_ENV}"))
        return {name: stored[name] for name in ways if name in stored}


@cache
def _public_settings(settings: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the settings that may be shown. It is slow to make, and a location has many resources."""
    fields: Any = public_fields(settings, optional=True)
    return create_model(f"{settings.__name__}Shown", **fields)


@cache
def resource_class(kind: DestinationKind) -> type[DestinationResource]:
    """Return the resource of a kind of destination."""
    made = create_model(
        kind.resource, __base__=DestinationResource, __module__=__name__, __doc__=kind.description,
        **_unlimited(public_fields(kind.settings)),
    )  # fmt: skip
    made.kind, made.settings = kind, kind.settings
    return made


def _source_class() -> type[PostgresSourceBase]:
    return create_model(
        "PostgresSource", __base__=PostgresSourceBase, __module__=__name__,
        __doc__="A PostgreSQL database that changes are captured from.", **_unlimited(public_fields(SourceSettings)),
    )  # fmt: skip


def _with_named_secrets(settings: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `dagster.EnvVar` of a secret by the variable's name. `ConfigurationError` when it is the secret itself."""
    named = dict(fields)
    for secret in secret_names(settings):
        if (given := named.pop(secret, None)) is None:
            continue
        if not isinstance(given, dg.EnvVar):
            raise ConfigurationError(
                f"A {secret} stands in the code, and Dagster would store and show it.",
                f'Put it into an environment variable and write {secret}=dagster.EnvVar("ITS_NAME").',
            )
        named[f"{secret}{_ENV}"] = given.env_var_name
    return named


def known_value(resource: Resource, name: str) -> Any:
    """Return the value of a setting; of a variable that is not set here, its name."""
    value = getattr(resource, name)
    return os.environ.get(value.env_var_name, str(value.env_var_name)) if _is_resolved_later(value) else value


def _resolved(resource: Resource, name: str) -> Any:
    """Return the value of a setting. `ConfigurationError` when it is a variable that is not set."""
    value = getattr(resource, name)
    if not _is_resolved_later(value):
        return value
    if (found := os.environ.get(value.env_var_name)) is None:
        raise ConfigurationError(
            f"The {place_of(name)} of {resource.name} is in the variable {value.env_var_name}, which is not set.",
            "Set it for the process that runs the code location.",
        )
    return found


def _refuse_moved(resource: Resource, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `SecretUnreadable` when the stored secrets were given for another server or user than the resource names."""
    given_for, now = binding(resource.settings, stored), binding(resource.settings, wanted)
    if given_for != now and any(stored.get(name) is not None for name in secret_names(resource.settings)):
        raise moved(f"of {resource.name}", given_for, now)


def _is_resolved_later(value: Any) -> bool:
    """Return whether Dagster looks the value up in the environment when a run begins."""
    return hasattr(value, "env_var_name")


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _unlimited(fields: Fields) -> Any:
    """Return fields of any value: `Resource` refuses wrong ones itself, in words that name the nearest right one."""
    return {
        name: (annotation, Field(default=_default(field), description=field.description))
        for name, (annotation, field) in fields.items()
    }


if TYPE_CHECKING:

    class PostgresSource(PostgresSourceBase):
        """A PostgreSQL database that changes are captured from."""

        def __init__(self, **fields: Any) -> None: ...

    class PostgresDestination(DestinationResource):
        """A PostgreSQL database that changes are applied to."""

        def __init__(self, **fields: Any) -> None: ...

        def connect(self) -> AbstractContextManager[PostgresSession]: ...

    class SnowflakeDestination(DestinationResource):
        """A Snowflake database that changes are applied to."""

        def __init__(self, **fields: Any) -> None: ...

        def connect(self) -> AbstractContextManager[SnowflakeSession]: ...

else:
    PostgresSource = _source_class()
    PostgresDestination = resource_class(kind_of("POSTGRES", "PostgresDestination"))
    SnowflakeDestination = resource_class(kind_of("SNOWFLAKE", "SnowflakeDestination"))

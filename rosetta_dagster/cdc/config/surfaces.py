"""Derives from a model of settings what each surface shows of it: which fields are columns, secret, or safe to show.

A secret is given to Dagster and to code as the name of an environment variable, `<field>_env`, since both store and show
what they are given.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo

#: The name of an environment variable.
VARIABLE: Final = "^[A-Za-z_][A-Za-z0-9_]*$"

#: Fields by name, as `pydantic.create_model` takes them.
Fields: TypeAlias = dict[str, tuple[Any, FieldInfo]]


@dataclass(frozen=True, slots=True)
class Column:
    """The column of the configuration database that holds a setting whose name differs from the column's."""

    name: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Marks a setting that everybody may see, in Dagster's UI too."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Marks a setting that says to whom the secrets of its row are given: they are bound to its value."""


@dataclass(frozen=True, slots=True)
class Secret:
    """How the command line takes a secret: from a variable, else a prompt; or from a file. Its text is never an argument."""

    variable: str | None = None
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """The option of the command line for a setting whose name differs from the option's."""

    name: str


SHOWN: Final = Shown()
BOUND: Final = Bound()

#: Settings with their values, as texts.
Binding: TypeAlias = tuple[tuple[str, str], ...]


def secret_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields that hold secrets: those typed `SecretStr`."""
    return tuple(name for name, field in model.model_fields.items() if _is_secret(field))


def shown_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields that everybody may see."""
    return tuple(name for name, field in model.model_fields.items() if SHOWN in field.metadata)


def binding(model: type[BaseModel], values: Mapping[str, Any]) -> Binding:
    """Return what the secrets of a row with these values are bound to. A setting that is not given has its default."""
    return tuple(
        (name, str(given))
        for name, field in model.model_fields.items()
        if BOUND in field.metadata and (given := values.get(field.alias or name, field.get_default())) is not None
    )


def column_of(name: str, field: FieldInfo) -> str:
    """Return the column that holds a setting."""
    return next((each.name for each in field.metadata if isinstance(each, Column)), name)


def public_fields(model: type[BaseModel], *, optional: bool = False) -> Fields:
    """Return the fields for a surface that Dagster stores and shows: a secret is replaced by the name of a variable.

    With `optional`, no field is required and none has a default of its own: None stands for "not given".
    """
    fields: Fields = {}
    for name, field in model.model_fields.items():
        if _is_secret(field):
            fields.setdefault(f"{name}_env", _variable(field))
        else:
            fields[name] = _public(field, optional=optional)
    return fields


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _variable(secret: FieldInfo) -> tuple[Any, FieldInfo]:
    what = (secret.description or "the secret").rstrip(".")
    description = f"Environment variable that holds this: {what[0].lower()}{what[1:]}."
    field: Any = Field(default=None, pattern=VARIABLE, description=description)
    return str | None, field


def _public(field: FieldInfo, *, optional: bool) -> tuple[Any, FieldInfo]:
    own = copy(field)
    own.alias = own.validation_alias = own.serialization_alias = own.alias_priority = None
    annotation = _plain(field.annotation)
    own.annotation = annotation
    if isinstance(field.default, Enum):
        own.default = field.default.value
    if isinstance(field.default, BaseModel):
        own.default, own.default_factory = {}, None
    if isinstance(field.default, tuple):
        own.default = list(field.default)
    if optional:
        own.default = None
        annotation = own.annotation = annotation | None
    return annotation, own


def _plain(annotation: Any) -> Any:
    """Return the type as Dagster can describe it: the values of an enumeration, a mapping for a model, a list."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Literal[tuple(str(each.value) for each in annotation)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return dict[str, Any]
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]  # read from the declared type
    if type(None) in get_args(annotation) and get_origin(annotation) is not Literal:
        # Dagster has no optional enumeration. The values are checked when the settings are.
        plain = [str if get_origin(each) is Literal else each for each in map(_plain, get_args(annotation))]
        return Union[tuple(plain)]  # noqa: UP007 - made of a list
    return annotation

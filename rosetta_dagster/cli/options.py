"""Makes options of the command line from declared settings, and settings from what was given."""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rosetta_dagster.cdc.config.pipeline import checked
from rosetta_dagster.cdc.config.surfaces import Flag, Secret, binding
from rosetta_dagster.cdc.errors import ConfigurationError

#: Types that an option can have, besides a list of texts. What is nested is set in the row, by SQL.
_SIMPLE: Final = (str, int, float, bool)

#: Options that are named after their settings.
_NO_FLAGS: Final[Mapping[str, str]] = {}

_Command = TypeVar("_Command", bound=Callable[..., None])


def with_options(
    settings: type[BaseModel], flags: Mapping[str, str] = _NO_FLAGS, *, edits: bool = False
) -> Callable[[_Command], _Command]:
    """Give a command an option for each setting, in the place of its `**options`. `flags` are names that differ.

    With `edits` none is required, and None stands for "stays as it is".
    """

    def decorate(command: _Command) -> _Command:
        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, field in settings.model_fields.items()
            for annotation, default in (_edit if edits else _option)(name, field, flags.get(name))
        ]
        command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return command

    return decorate


def given(settings: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from their defaults, by the names that they have in a row; secrets included."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        field = settings.model_fields[name]
        secret = _mark(field, Secret)
        if (value in (None, "") and secret is not None) or value == _default(field):
            continue
        values[field.alias or name] = _read(value) if secret is not None and secret.is_file else value
    for name in [name for name in values if f"{name}_env" in values]:
        # The variable is asked for as well, since a prompt comes before anything is known of the other options.
        del values[name]
    return values


_Model = TypeVar("_Model", bound=BaseModel)


def checked_options(
    settings: type[_Model], values: dict[str, Any], place: str, flags: Mapping[str, str] = _NO_FLAGS
) -> _Model:
    """Return the values as settings. `ConfigurationError` names each wrong option as it is written on the command line."""
    try:
        return checked(settings, values, place, "Correct the option.")
    except ConfigurationError as error:
        message = error.message
        for name, field in settings.model_fields.items():
            message = re.sub(rf"\b{field.alias or name}:", f"{flags.get(name) or _flag(name, field)}:", message)
        raise ConfigurationError(message, error.remedy) from None


def edited(settings: type[BaseModel], present: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a row with what was given. A text that is empty removes a setting.

    Secrets are bound to the place that a row leads to: if it leads elsewhere, they are asked for again.
    """
    changes = {
        settings.model_fields[name].alias or name: _edited_value(settings.model_fields[name], value)
        for name, value in options.items()
        if value is not None and not (value is False and _mark(settings.model_fields[name], Secret))
    }
    if not changes:
        raise ConfigurationError("No option was given.", "Give each setting that changes; --help lists them.")
    values = {name: value for name, value in {**present, **changes}.items() if value is not None}
    if binding(settings, present) != binding(settings, values):
        values |= _secrets_again(settings, present, changes)
    return values


def _edited_value(field: FieldInfo, value: Any) -> Any:
    secret = _mark(field, Secret)
    if secret is None:
        return None if value == "" else value
    return _read(value) if secret.is_file else _asked(field, secret)


def _secrets_again(settings: type[BaseModel], present: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    asked = {}
    for name, field in settings.model_fields.items():
        secret = _mark(field, Secret)
        if secret is None or present.get(name) is None or name in changes:
            continue
        if secret.is_file:
            raise ConfigurationError(
                f"The row keeps the {name} for the place it led to, and leads elsewhere now.",
                f"Give it again: {_flag(name, field)} FILE.",
            )
        asked[name] = _asked(field, secret)
    return asked


def _asked(field: FieldInfo, secret: Secret) -> str:
    given = os.environ.get(secret.variable or "")
    return given or str(typer.prompt((field.description or "Secret").rstrip("."), hide_input=True))


def _flag(name: str, field: FieldInfo) -> str:
    own_flag = _mark(field, Flag)
    return own_flag.name if own_flag else f"--{(field.alias or name).replace('_', '-')}"


def _edit(name: str, field: FieldInfo, flag: str | None) -> list[tuple[Any, Any]]:
    """Return annotation and default of the option that changes a setting; nothing where there is none."""
    secret, flag = _mark(field, Secret), flag or _flag(name, field)
    if secret is not None and secret.variable is not None:
        asks: Any = typer.Option(flag, help=f"Ask for another one, or take it from {secret.variable}.")
        return [(Annotated[bool, asks], False)]
    if secret is not None:
        return _option(name, field, flag)
    plain, choices = _plain(field.annotation)
    if plain is None:
        return []
    flags = (f"{flag}/--no-{flag.removeprefix('--')}",) if plain is bool else (flag,)
    option: Any = typer.Option(*flags, help=field.description, metavar="|".join(choices) or None, show_default=False)
    return [(Annotated[plain | None, option], None)]


def _option(name: str, field: FieldInfo, flag: str | None) -> list[tuple[Any, Any]]:
    """Return annotation and default of the option for a setting; nothing when the command line cannot take it."""
    secret, flag = _mark(field, Secret), flag or _flag(name, field)
    if secret is not None and secret.variable is not None:
        # An argument of a process can be seen by everybody on the machine.
        asked: Any = typer.Option(
            flag, envvar=secret.variable, prompt=True, hide_input=True, help="Asked for when not in the variable."
        )
        return [(Annotated[str, asked], inspect.Parameter.empty)]
    if secret is not None:
        help_text = f"File that holds this: {field.description} The row keeps it, encrypted."
        return [(Annotated[Path | None, typer.Option(flag, help=help_text)], None)]
    plain, choices = _plain(field.annotation)
    if plain is None:
        return []
    flags = (f"{flag}/--no-{flag.removeprefix('--')}",) if plain is bool else (flag,)
    option: Any = typer.Option(*flags, help=field.description, metavar="|".join(choices) or None)
    if field.is_required():
        return [(Annotated[plain, option], inspect.Parameter.empty)]
    default = _default(field)
    return [(Annotated[plain if default is not None else plain | None, option], default)]


def _plain(annotation: Any) -> tuple[Any, list[str]]:
    """Return the type of an option, and its values when there are few; these are verified with the other settings."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return str, [str(each.value) for each in annotation]
    if get_origin(annotation) is Literal:
        return str, [str(each) for each in get_args(annotation)]
    if annotation in _SIMPLE:
        return annotation, []
    if get_origin(annotation) in (tuple, dict):
        return list[str], []
    parts = [each for each in get_args(annotation) if each is not type(None)]
    return _plain(parts[0]) if len(parts) == 1 else (None, [])


def _default(field: FieldInfo) -> Any:
    if isinstance(field.default, tuple | dict):
        return list(field.default)
    return field.default.value if isinstance(field.default, Enum) else field.default


_MarkType = TypeVar("_MarkType", Flag, Secret)


def _mark(field: FieldInfo, kind: type[_MarkType]) -> _MarkType | None:
    return next((each for each in field.metadata if isinstance(each, kind)), None)


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror or type(error).__name__}.", "Correct the path."
        ) from None

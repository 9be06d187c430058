"""Words what is wrong with a setting: the field, and the nearest right name or value; never the value that was given."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

#: Type of an error that a model raises with its own wording.
UNKNOWN: Final = "unknown_setting"


def problems(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one line that names every field at fault."""
    return "; ".join(
        _problem(found, model) for found in error.errors(include_url=False, include_input=True, include_context=True)
    )


def worded(text: str) -> PydanticCustomError:
    """Return an error for a validator to raise, whose text names the field and is kept as it is."""
    return PydanticCustomError(UNKNOWN, "{text}", {"text": text})


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that this one is most likely a misspelling of.

    >>> nearest("ssl_mode", ["host", "sslmode"]), nearest("colour", ["host", "sslmode"])
    ('sslmode', None)
    """
    spellings = {each.lower(): each for each in known}
    found = get_close_matches(name.lower(), spellings, n=1, cutoff=0.6)
    return spellings[found[0]] if found else None


def unknown(name: str, known: Sequence[str]) -> str:
    """Word that there is no setting of this name."""
    near = nearest(name, known)
    hint = f"did you mean {near}" if near else f"the settings are {', '.join(known)}"
    return f"{name}: there is no such setting; {hint}"


def _problem(found: Any, model: type[BaseModel]) -> str:
    if found["type"] == UNKNOWN:
        return str(found["msg"])
    place = ".".join(map(str, found["loc"])) or "the whole"
    if found["type"] == "extra_forbidden":
        names = _names(_model_at(model, found["loc"][:-1]))
        return place.removesuffix(str(found["loc"][-1])) + unknown(str(found["loc"][-1]), names)
    message = str(found["msg"]).lower()
    if found["type"] in ("literal_error", "enum"):
        near = nearest(str(found["input"]), _permitted(model, found["loc"]))
        # What follows "should be" lists the permitted values in their own spelling.
        message = str(found["msg"])[0].lower() + str(found["msg"])[1:]
        return f"{place}: {message}{f'; did you mean {near}' if near else ''}"
    return f"{place}: {message}"


def _names(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], place: Sequence[Any]) -> type[BaseModel] | None:
    """Return the model that this place of a value is validated by."""
    found: type[BaseModel] | None = model
    for name in place:
        found = None if found is None else _model_in(_annotation(found, name))
    return found


def _permitted(model: type[BaseModel], place: Sequence[Any]) -> list[str]:
    """Return the values that a field of few values takes."""
    parent = _model_at(model, place[:-1])
    return [] if parent is None or not place else _values_of(_annotation(parent, place[-1]))


def _annotation(model: type[BaseModel], name: Any) -> Any:
    fields = {field.alias or own: field.annotation for own, field in model.model_fields.items()}
    return fields.get(name)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)


def _values_of(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(each.value) for each in annotation]
    if get_origin(annotation) is Literal:
        return [str(each) for each in get_args(annotation)]
    return [value for each in get_args(annotation) for value in _values_of(each)]

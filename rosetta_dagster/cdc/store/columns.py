"""Writes the column lists of statements from the models of settings, so that a setting is named in one place."""

import json
from collections.abc import Mapping
from typing import Any

from psycopg import sql
from pydantic import BaseModel

from rosetta_dagster.cdc.config.surfaces import column_of

_COMMA = sql.SQL(", ")


def columns(model: type[BaseModel]) -> dict[str, str]:
    """Return the column of each setting."""
    return {name: column_of(name, field) for name, field in model.model_fields.items()}


def selected(model: type[BaseModel], table: str) -> sql.Composed:
    """Return the settings of a row as one JSON object by their own names, for a select list."""
    pairs = (
        sql.SQL("{}, {}").format(sql.Literal(name), sql.Identifier(table, column)) for name, column in columns(model).items()
    )
    return sql.SQL("jsonb_build_object({})").format(_COMMA.join(pairs))


def listed(model: type[BaseModel]) -> sql.Composed:
    """Return the columns, for the list of an INSERT."""
    return _COMMA.join(map(sql.Identifier, columns(model).values()))


def placeholders(model: type[BaseModel]) -> sql.Composed:
    """Return a named parameter for each column of `listed`."""
    return _COMMA.join(map(sql.Placeholder, columns(model)))


def replaced(model: type[BaseModel]) -> sql.Composed:
    """Return the assignments that replace the columns of a row that exists."""
    return _COMMA.join(
        sql.SQL("{column} = EXCLUDED.{column}").format(column=sql.Identifier(column)) for column in columns(model).values()
    )


def assigned(model: type[BaseModel]) -> sql.Composed:
    """Return the assignments of the parameters of `placeholders` to the columns of a row."""
    return _COMMA.join(
        sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(name)) for name, column in columns(model).items()
    )


def differs(model: type[BaseModel], table: str) -> sql.Composed:
    """Return the condition that a row that exists has other settings than the new one."""
    names = columns(model).values()
    return sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
        _COMMA.join(sql.Identifier(table, name) for name in names),
        _COMMA.join(sql.SQL("EXCLUDED.{}").format(sql.Identifier(name)) for name in names),
    )


def parameters(model: type[BaseModel], settings: BaseModel) -> Mapping[str, Any]:
    """Return the values for the parameters of `placeholders`. psycopg writes a list as an array, and a tuple as a record."""
    return {name: _parameter(getattr(settings, name)) for name in model.model_fields}


def _parameter(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return list(value) if isinstance(value, tuple) else value

"""Builds the statements that create a source's types at a PostgreSQL destination. Pure functions."""

from collections.abc import Sequence

from psycopg import sql

from rosetta_dagster.cdc.change.types import CompositeType, DomainType, EnumType, TypeDefinition

_COMMA = sql.SQL(", ")


def create_type(definition: TypeDefinition) -> sql.Composed:
    """Create the type, without constraints and defaults: values have passed those at the source."""
    name = type_name(definition)
    match definition:
        case EnumType(labels=labels):
            return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(name, _COMMA.join(map(sql.Literal, labels)))
        case DomainType(base_type=base_type):
            return sql.SQL("CREATE DOMAIN {} AS {}").format(name, sql.SQL(base_type))
        case CompositeType(attributes=attributes):
            parts = [sql.SQL("{} {}").format(sql.Identifier(each), sql.SQL(kind)) for each, kind in attributes]
            return sql.SQL("CREATE TYPE {} AS ({})").format(name, _COMMA.join(parts))


def type_name(definition: TypeDefinition) -> sql.Identifier:
    return sql.Identifier(definition.namespace, definition.name)


def add_labels(definition: EnumType, present: Sequence[str]) -> list[sql.Composed]:
    """Add the labels that the destination's type is missing, each in the place that it has at the source."""
    statements = []
    known = list(present)
    for number, label in enumerate(definition.labels):
        if label in known:
            continue
        statements.append(
            sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}").format(
                type_name(definition), sql.Literal(label), _place(definition.labels, number, known)
            )
        )
        known.append(label)
    return statements


def _place(labels: Sequence[str], number: int, known: Sequence[str]) -> sql.Composable:
    """Return where a label goes: after the one before it, else before the next one that exists."""
    if number:
        # Every label before this one exists by now.
        return sql.SQL(" AFTER {}").format(sql.Literal(labels[number - 1]))
    following = next((label for label in labels if label in known), None)
    return sql.SQL("") if following is None else sql.SQL(" BEFORE {}").format(sql.Literal(following))

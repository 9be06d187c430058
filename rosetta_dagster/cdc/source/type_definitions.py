"""Reads from the source's catalog how its users have defined types."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.types import FIRST_USER_OID, CompositeType, DomainType, EnumType, TypeDefinition

#: The wanted types and all that they are made of: an array's elements, a domain's base type, a composite's attributes.
#: `uses` are the types that have to exist first; an array has no definition, but leads to one. The type of a table's rows
#: comes with its table, and types of an extension with the extension.
_DEFINITIONS = """
WITH RECURSIVE used AS (
    SELECT type.oid, type.typtype, type.typelem, type.typbasetype, type.typtypmod, type.typrelid, type.typcategory,
           type.typnamespace, type.typname
    FROM pg_type AS type WHERE type.oid = ANY (%(oids)s::bigint[]::oid[])
    UNION
    SELECT type.oid, type.typtype, type.typelem, type.typbasetype, type.typtypmod, type.typrelid, type.typcategory,
           type.typnamespace, type.typname
    FROM used
    JOIN pg_type AS type ON type.oid >= %(first)s::bigint::oid AND (
        (used.typcategory = 'A' AND type.oid = used.typelem) OR (used.typtype = 'd' AND type.oid = used.typbasetype)
        OR (used.typtype = 'c' AND type.oid IN (SELECT atttypid FROM pg_attribute
                                                WHERE attrelid = used.typrelid AND attnum > 0 AND NOT attisdropped)))
)
SELECT used.oid::bigint, used.typtype::text, namespace.nspname::text, used.typname::text,
       format_type(NULLIF(used.typbasetype, 0), used.typtypmod),
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = used.oid ORDER BY enumsortorder),
       ARRAY(SELECT ARRAY[attname::text, format_type(atttypid, atttypmod)] FROM pg_attribute
             WHERE attrelid = used.typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
       ARRAY(SELECT each::bigint FROM unnest(ARRAY[used.typelem, used.typbasetype]) AS each WHERE each <> 0
             UNION SELECT atttypid::bigint FROM pg_attribute
             WHERE attrelid = used.typrelid AND attnum > 0 AND NOT attisdropped)
FROM used JOIN pg_namespace AS namespace ON namespace.oid = used.typnamespace
WHERE NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = used.oid AND deptype = 'e')
  AND NOT EXISTS (SELECT FROM pg_class WHERE oid = used.typrelid AND relkind <> 'c')
"""


def read_type_definitions(connection: "psycopg.Connection[Any]", oids: Collection[int]) -> tuple[TypeDefinition, ...]:
    """Return the definitions of these types and of the types they are made of; each follows those that it uses.

    The session's search path has to be empty, so that types are spelled with their namespace.
    """
    rows = connection.execute(_DEFINITIONS, {"oids": sorted(oids), "first": FIRST_USER_OID}).fetchall()
    definitions = {row[0]: _definition(row) for row in rows}
    uses: dict[int, Sequence[int]] = {row[0]: row[7] for row in rows}
    ordered = (definitions[oid] for oid in _in_order(uses))
    return tuple(definition for definition in ordered if definition is not None)


def _in_order(uses: Mapping[int, Sequence[int]]) -> Iterator[int]:
    """Yield every type once, after the types that it uses. PostgreSQL lets no type contain itself."""
    done: set[int] = set()

    def visit(oid: int) -> Iterator[int]:
        if oid in done or oid not in uses:
            return
        done.add(oid)
        for used in sorted(uses[oid]):
            yield from visit(used)
        yield oid

    for oid in sorted(uses):
        yield from visit(oid)


def _definition(row: tuple[Any, ...]) -> TypeDefinition | None:
    """Return the definition of a type; None for an array, a range, or another kind that is not created elsewhere."""
    _, kind, namespace, name, base_type, labels, attributes, _ = row
    match kind:
        case "e":
            return EnumType(namespace=namespace, name=name, labels=tuple(labels))
        case "d":
            return DomainType(namespace=namespace, name=name, base_type=base_type)
        case "c":
            return CompositeType(
                namespace=namespace, name=name, attributes=tuple((each, type_) for each, type_ in attributes)
            )
        case _:
            return None

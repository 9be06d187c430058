"""Describes the types that a source's users have defined, so that a destination can create them.

A definition holds what values need: labels, attributes, the base type. Constraints and defaults stay at the source, where
every value has passed them already.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from rosetta_dagster.cdc.change.schema import TableSchema

#: Types with a lower OID come with every server (`FirstNormalObjectId`).
FIRST_USER_OID: Final = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumType:
    """An enum type."""

    namespace: str
    name: str
    #: In the type's order.
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainType:
    """A domain over another type."""

    namespace: str
    name: str
    #: As SQL spells it, modifier included.
    base_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeType:
    """A type made of attributes."""

    namespace: str
    name: str
    #: Name and type of each, in order; the type as SQL spells it.
    attributes: tuple[tuple[str, str], ...]


TypeDefinition: TypeAlias = EnumType | DomainType | CompositeType

#: Reads, by OID, the current definitions of types and of the types they are made of; each follows those that it uses.
#: Types of extensions, and types that are gone, have none.
TypeReader: TypeAlias = Callable[[Collection[int]], Sequence[TypeDefinition]]


def no_types(oids: Collection[int]) -> Sequence[TypeDefinition]:  # noqa: ARG001 - a reader that knows no type
    """Return no definition: a reader for tables whose types all exist already."""
    return ()


def user_types(tables: Iterable[TableSchema]) -> frozenset[int]:
    """Return the OIDs of the user-defined types that the tables' columns have."""
    return frozenset(column.type_oid for table in tables for column in table.columns if column.type_oid >= FIRST_USER_OID)

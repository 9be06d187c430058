"""What a table of the source looks like: its name, its columns, and how its rows are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self


class TableId(NamedTuple):
    """A table by namespace and name, as the catalog spells them (not quoted, case kept)."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace.name`; a name alone is of `public`. The first dot separates."""
        namespace, dot, name = text.partition(".")
        return cls(namespace, name) if dot else cls("public", namespace)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"


class Identity(StrEnum):
    """What PostgreSQL logs of the old row of an update or delete (`pg_class.relreplident`)."""

    #: The key columns: the primary key, or the index of REPLICA IDENTITY USING INDEX.
    KEY = "KEY"
    #: The whole row (REPLICA IDENTITY FULL).
    FULL = "FULL"
    #: Nothing: the source refuses updates and deletes of such a table while it is published.
    NOTHING = "NOTHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a source table."""

    name: str
    #: The type as SQL spells it, modifier included: `numeric(12,2)`, `character varying(40)`, `integer[]`.
    type: str
    #: OID of the type; for a domain that of the domain.
    type_oid: int
    #: OID of the type that decides the text form: a domain's base type, else the type itself.
    base_oid: int
    #: OID of an array's elements (a domain's included, resolved); 0 when the type is not an array.
    element_oid: int = 0
    not_null: bool = False
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """The columns of a source table in order, and its key. Rows are tuples in this order."""

    id: TableId
    columns: tuple[Column, ...]
    #: Names of the columns that identify a row, in the key's order; empty for a table without a key.
    key: tuple[str, ...]
    identity: Identity
    comment: str | None = None
    #: Where the key's columns stand in a row.
    key_indexes: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.column_names
        object.__setattr__(self, "key_indexes", tuple(names.index(name) for name in self.key))

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def missing_columns(known: Sequence[str], schema: TableSchema) -> tuple[Column, ...]:
    """The columns of the schema that are not among the known names, in order."""
    return tuple(column for column in schema.columns if column.name not in known)

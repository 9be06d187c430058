"""Strategies for tables: columns of every type, every way to tell rows apart, partitions, generated columns."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from hashlib import md5
from typing import Final, TypeAlias

from hypothesis import strategies as st

from rosetta_dagster.cdc.table_id import TableId

from .names import cut, literal, names, quoted, told_apart
from .types import Type, types

#: The text of each value by the mark of its column.
Row: TypeAlias = dict[int, str | None]


class Identification(StrEnum):
    """How the rows of a table are told apart."""

    PRIMARY_KEY = "PRIMARY_KEY"
    PRIMARY_KEY_AND_FULL = "PRIMARY_KEY_AND_FULL"
    #: REPLICA IDENTITY USING INDEX.
    INDEX = "INDEX"
    FULL = "FULL"
    #: Inserts only.
    NOTHING = "NOTHING"


#: Those of tables, as often as they stand here.
_IDENTIFICATIONS: Final = (
    *Identification,
    *Identification,
    *(each for each in Identification if each is not Identification.NOTHING),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    #: Tells it from every other column that the table ever has; rows hold their values by it.
    mark: int
    name: str
    type: Type
    #: Stored out of line, not compressed.
    is_external: bool = False
    #: Without being of the key.
    not_null: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the source. The key's columns stand first, not in the key's order."""

    id: TableId
    columns: tuple[Column, ...]
    #: Marks of columns.
    key: tuple[int, ...]
    identification: Identification
    #: Whether the first column, an integer, numbers the rows: then rows are never equal.
    partition_count: int = 0
    #: SQL of a generated column, or nothing.
    generated: str = ""
    #: A column that is dropped before the first row is written.
    has_dropped: bool = False

    @property
    def sql(self) -> str:
        return quoted(*self.id)

    @property
    def _mark(self) -> str:
        """Tells the partitions and indexes of the tables of a namespace apart."""
        return md5(self.id.name.encode(), usedforsecurity=False).hexdigest()[:12]

    @property
    def may_change(self) -> bool:
        """Whether PostgreSQL takes updates and deletes of it, once it is published.

        From version 18 on it refuses them where a generated column is a part of the replica identity.
        """
        is_full = self.identification in {Identification.FULL, Identification.PRIMARY_KEY_AND_FULL}
        return self.identification is not Identification.NOTHING and not (is_full and self.generated)

    def with_column(self, column: Column) -> "Table":
        return replace(self, columns=(*self.columns, column))

    def column(self, mark: int) -> Column:
        """`LookupError` when it is not there."""
        found = [column for column in self.columns if column.mark == mark]
        return found[0]

    def _key_sql(self) -> str:
        return ", ".join(quoted(self.column(mark).name) for mark in self.key)

    def ddl(self) -> tuple[str, ...]:
        """The statements that make it."""
        statements = [self._create(), *self._partitions()]
        if self.has_dropped:
            statements.append(f"ALTER TABLE {self.sql} DROP COLUMN dropped_column")
        statements += [
            f"ALTER TABLE {self.sql} ALTER {quoted(column.name)} SET STORAGE EXTERNAL"
            for column in self.columns
            if column.is_external
        ]
        return (*statements, *self._identity())

    def _create(self) -> str:
        not_null = {mark for mark in self.key if self.identification is Identification.INDEX}
        not_null |= {column.mark for column in self.columns if column.not_null}
        parts = ["dropped_column text"] if self.has_dropped else []
        parts += [f"{quoted(c.name)} {c.type.sql}{' NOT NULL' if c.mark in not_null else ''}" for c in self.columns]
        parts.insert(len(parts) // 2, self.generated)
        if self.identification in {Identification.PRIMARY_KEY, Identification.PRIMARY_KEY_AND_FULL}:
            parts.append(f"PRIMARY KEY ({self._key_sql()})")
        partitions = f" PARTITION BY HASH ({quoted(self.columns[0].name)})" if self.partition_count else ""
        return f"CREATE TABLE {self.sql} ({', '.join(filter(None, parts))}){partitions}"

    def leaves(self) -> list[str]:
        """The relations that hold the rows."""
        count = self.partition_count
        return [quoted(self.id.namespace, f"part {number} {self._mark}") for number in range(count)] if count else [self.sql]

    def _partitions(self) -> list[str]:
        return [
            f"CREATE TABLE {leaf} PARTITION OF {self.sql}"
            f" FOR VALUES WITH (MODULUS {self.partition_count}, REMAINDER {number})"
            for number, leaf in enumerate(self.leaves() if self.partition_count else ())
        ]

    def _identity(self) -> list[str]:
        match self.identification:
            case Identification.PRIMARY_KEY_AND_FULL | Identification.FULL:
                return [
                    f"ALTER TABLE {name} REPLICA IDENTITY FULL" for name in {self.sql: 0, **dict.fromkeys(self.leaves())}
                ]
            case Identification.INDEX:
                index = quoted(f"identity {self._mark}")
                made = f"CREATE UNIQUE INDEX {index} ON {self.sql} ({self._key_sql()})"
                return [made, f"ALTER TABLE {self.sql} REPLICA IDENTITY USING INDEX {index}"]
        return []

    def insert(self, rows: list[Row]) -> str:
        """A statement that adds the rows whose keys are free. Columns that the rows lack get their defaults."""
        there = self.there(rows[0])
        columns = ", ".join(quoted(column.name) for column in there)
        values = ", ".join(f"({', '.join(self._value(c, row[c.mark]) for c in there)})" for row in rows)
        if not there:
            return f"INSERT INTO {self.sql} DEFAULT VALUES"
        return f"INSERT INTO {self.sql} ({columns}) VALUES {values} ON CONFLICT DO NOTHING"

    def there(self, row: Row) -> list[Column]:
        """The columns that the row has values of."""
        return [column for column in self.columns if column.mark in row]

    def assignments(self, row: Row) -> str:
        return ", ".join(f"{quoted(c.name)} = {self._value(c, row[c.mark])}" for c in self.there(row))

    def _value(self, column: Column, text: str | None) -> str:
        return f"{literal(text)}::{column.type.sql}"

    def some_rows(self, count: int, skip: int) -> str:
        """A condition that holds for so many rows which nobody else is changing, after some in the order of their text."""
        return (
            f"(tableoid, ctid) IN (SELECT tableoid, ctid FROM {self.sql} AS chosen ORDER BY chosen::text"
            f" OFFSET {skip} LIMIT {count} FOR UPDATE SKIP LOCKED)"
        )


@st.composite
def tables(draw: st.DrawFn, *, namespace: str, for_debezium: bool) -> Table:
    known = types(for_debezium=for_debezium)
    identification = draw(st.sampled_from(_IDENTIFICATIONS))
    is_keyed = identification not in {Identification.FULL, Identification.NOTHING}
    # The updates of a partitioned table without a primary key are not published.
    can_be_partitioned = identification not in {Identification.INDEX, Identification.FULL}
    partition_count = draw(st.sampled_from([0, 0, 0, 2])) if can_be_partitioned else 0
    key_count = draw(st.sampled_from([1, 1, 1, 2, 3])) if is_keyed or partition_count else 0
    keys = [each for each in known if each.is_key]
    key_types = [draw(st.sampled_from(keys)) for _ in range(key_count)]
    if partition_count:
        key_types[0] = draw(st.sampled_from([each for each in keys if each.has_hash]))
    others = [draw(st.sampled_from(known)) for _ in range(draw(st.integers(0 if key_count else 1, 12 - key_count)))]
    column_types = [*key_types, *others]
    column_names = draw(
        st.lists(
            names(for_debezium=for_debezium),
            min_size=len(column_types),
            max_size=len(column_types),
            unique_by=partial(told_apart, for_debezium=for_debezium),
        )
    )
    columns = tuple(
        Column(
            mark=mark,
            name=name,
            type=each,
            is_external=each.large is not None and draw(st.booleans()),
            not_null=mark >= key_count and draw(st.integers(0, 7)) == 7,
        )
        for mark, (name, each) in enumerate(zip(column_names, column_types, strict=True))
    )
    key = draw(st.permutations(range(key_count))) if is_keyed else []
    return Table(
        id=TableId(namespace, draw(names(for_debezium=for_debezium))),
        columns=columns,
        key=tuple(key),
        identification=identification,
        partition_count=partition_count,
        generated=draw(_generated(columns)),
        has_dropped=draw(st.booleans()) and not partition_count,
    )


@st.composite
def _generated(draw: st.DrawFn, columns: tuple[Column, ...]) -> str:
    """A generated column over an integer, when there is one."""
    integers = [column.name for column in columns if column.type.sql in {"integer", "smallint", "bigint"}]
    if draw(st.integers(0, 3)):
        return ""
    expression = f"{quoted(draw(st.sampled_from(integers)))}::numeric * 2" if integers else "1 + 1"
    # A table with a virtual one is not partitioned by it, nor is it a key.
    return f"generated_column numeric GENERATED ALWAYS AS ({expression}) {draw(st.sampled_from(['STORED', 'VIRTUAL']))}"


@st.composite
def rows(draw: st.DrawFn, table: Table, *, has_large: bool = True) -> Row:
    return {
        column.mark: draw(value(column, may_be_null=may_be_null(table, column), has_large=has_large))
        for column in table.columns
    }


def may_be_null(table: Table, column: Column) -> bool:
    return column.mark not in table.key and not column.not_null


@st.composite
def value(draw: st.DrawFn, column: Column, *, may_be_null: bool, has_large: bool = True) -> str | None:
    if may_be_null and draw(st.integers(0, 5)) == 0:
        return None
    if column.type.large is not None and has_large and may_be_null and draw(st.integers(0, 2)) == 0:
        return column.type.large(draw(st.integers(0, 1000)))
    return draw(column.type.texts)


def namespace_of(number: int, place: int, name: str) -> str:
    """A namespace that no other workload has."""
    return cut(f"w{number}.{place} {name}")

"""The kinds of destination that the contract is tested on. A further kind is one class and one line of `KINDS` here."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import pytest
from psycopg import sql

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.destination.registry import make_destination, register, unregister
from rosetta_dagster.cdc.destination.snowflake.names import Names, quoted
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.testing import MEMORY, MemoryDatabase
from tests.support.database import Database
from tests.support.snowflake_database import SnowflakeDatabase, drop_database, fresh_database, live_config

#: A row as a test reads it.
TextRow: TypeAlias = tuple[str | None, ...]


class DestinationKind(Protocol):
    """One empty database of a kind, and what a test does to it behind Rosetta's back."""

    #: As `destinations.type` has it.
    type: str

    @property
    def config(self) -> dict[str, Any]:
        """As `destinations.config` has it."""

    def rows(self, target: TableId, columns: Sequence[str]) -> list[TextRow]:
        """Every row of a table, each value as PostgreSQL would print it; sorted."""

    def columns(self, target: TableId) -> list[str]:
        """The names of a table's columns in order; empty when there is no such table."""

    def insert(self, target: TableId, columns: Sequence[str], row: TextRow) -> None:
        """Write a row that Rosetta did not write."""

    def drop(self, target: TableId) -> None:
        """Drop a table."""

    def comments(self, target: TableId) -> dict[str, str]:
        """The comments of a table's columns by name, and its own by an empty name."""

    def printed_json(self, text: str) -> str:
        """How a value of the type json is read back by `rows`."""

    #: How many batches a random workload has.
    random_batches: int

    #: Names that the server behind the tests cannot give a namespace, or a column.
    unusable_namespaces: frozenset[str]
    unusable_columns: frozenset[str]


class PostgresKind:
    """A database of PostgreSQL."""

    type = "POSTGRES"
    random_batches = 25
    unusable_namespaces: frozenset[str] = frozenset()
    unusable_columns: frozenset[str] = frozenset()

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def config(self) -> dict[str, Any]:
        return self._database.config

    def rows(self, target: TableId, columns: Sequence[str]) -> list[TextRow]:
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("SELECT {} FROM {}").format(texts, sql.Identifier(*target))
        with self._database.connect() as connection:
            return in_order(connection.execute(query).fetchall())

    def columns(self, target: TableId) -> list[str]:
        query = (
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
        )
        with self._database.connect() as connection:
            return [name for (name,) in connection.execute(query, target).fetchall()]

    def insert(self, target: TableId, columns: Sequence[str], row: TextRow) -> None:
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(*target),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(map(sql.Literal, row)),
        )
        with self._database.connect() as connection:
            connection.execute(query)

    def drop(self, target: TableId) -> None:
        with self._database.connect() as connection:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(*target)))

    def comments(self, target: TableId) -> dict[str, str]:
        query = (
            "SELECT COALESCE(attname::text, ''), description FROM pg_description"
            " LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND attnum > 0"
            " WHERE classoid = 'pg_class'::regclass AND objoid = to_regclass(format('%%I.%%I', %s::text, %s::text))"
        )
        with self._database.connect() as connection:
            return dict(connection.execute(query, target).fetchall())

    def printed_json(self, text: str) -> str:
        return text


class SnowflakeKind:
    """A database of Snowflake."""

    type = "SNOWFLAKE"
    # Each takes the emulator half a second.
    random_batches = 8
    # fakesnow writes names into texts and names of its own, and forgets to quote them there.
    unusable_namespaces = frozenset({'quo"te', "dot.ted", "apo'strophe"})
    unusable_columns = frozenset({"apo'strophe"})

    def __init__(self, database: SnowflakeDatabase, *, preserve_case: bool = False) -> None:
        self._database = database
        self._preserve_case = preserve_case
        self._names = Names(preserve_case)

    @property
    def config(self) -> dict[str, Any]:
        return {**self._database.config, "preserve_case": self._preserve_case}

    def rows(self, target: TableId, columns: Sequence[str]) -> list[TextRow]:
        names = ", ".join(quoted(self._names.of(name)) for name in columns)
        rows = self._database.rows(f"SELECT {names} FROM {quoted(*self._names.table(target))}")
        types = self._types(target)
        return in_order([tuple(_printed(value, types[n]) for value, n in zip(row, columns, strict=True)) for row in rows])

    def columns(self, target: TableId) -> list[str]:
        return list(self._types(target))

    def insert(self, target: TableId, columns: Sequence[str], row: TextRow) -> None:
        names = ", ".join(quoted(self._names.of(name)) for name in columns)
        marks = ", ".join("?" for _ in row)
        self._database.rows(f"INSERT INTO {quoted(*self._names.table(target))} ({names}) SELECT {marks}", *row)

    def drop(self, target: TableId) -> None:
        self._database.rows(f"DROP TABLE {quoted(*self._names.table(target))}")

    def comments(self, target: TableId) -> dict[str, str]:
        namespace, name = self._names.table(target)
        own = self._database.rows(
            "SELECT '', COMMENT FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", namespace, name
        )
        columns = self._database.rows(
            "SELECT COLUMN_NAME, COMMENT FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            namespace, name,
        )  # fmt: skip
        return {str(key).lower(): str(comment) for key, comment in (*own, *columns) if comment}

    def printed_json(self, text: str) -> str:
        return json.dumps(json.loads(text))

    def _types(self, target: TableId) -> dict[str, str]:
        """The type of each column by its name, as the source spells it when its name is in lower case there."""
        rows = self._database.rows(
            "SELECT COLUMN_NAME, DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS"
            " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            *self._names.table(target),
        )
        return _BySpelling({name if self._preserve_case else name.lower(): type_ for name, type_ in rows})


class MemoryKind:
    """A database in memory."""

    type = MEMORY.type
    random_batches = 25
    unusable_namespaces: frozenset[str] = frozenset()
    unusable_columns: frozenset[str] = frozenset()

    def __init__(self, name: str) -> None:
        self._name = name
        self._database = MemoryDatabase.named(name)

    @property
    def config(self) -> dict[str, Any]:
        return {"database": self._name}

    def rows(self, target: TableId, columns: Sequence[str]) -> list[TextRow]:
        rows = self._database.read().tables[target].rows
        return in_order([tuple(_decoded(row.get(name)) for name in columns) for row in rows])

    def columns(self, target: TableId) -> list[str]:
        tables = self._database.read().tables
        return list(tables[target].columns) if target in tables else []

    def insert(self, target: TableId, columns: Sequence[str], row: TextRow) -> None:
        values: Any = [None if text is None else text.encode() for text in row]
        with self._database.transaction() as contents:
            contents.tables[target].rows.append(dict(zip(columns, values, strict=True)))

    def drop(self, target: TableId) -> None:
        with self._database.transaction() as contents:
            del contents.tables[target]

    def comments(self, target: TableId) -> dict[str, str]:
        table = self._database.read().tables[target]
        return {**table.column_comments, **({"": table.comment} if table.comment is not None else {})}

    def printed_json(self, text: str) -> str:
        return text


def _decoded(value: Any) -> str | None:
    return None if value is None else value.decode()


def _in_memory(request: pytest.FixtureRequest) -> DestinationKind:
    """The line that registers the kind is all that Rosetta needs to know of it."""
    register(MEMORY)
    request.addfinalizer(lambda: unregister(MEMORY))
    return MemoryKind(request.node.nodeid)


class _BySpelling(dict[str, str]):
    """Types by name; a name in capitals is found by any spelling."""

    def __missing__(self, name: str) -> str:
        return self[name.lower()] if name != name.lower() else "TEXT"


def _printed(value: Any, type_: str) -> str | None:
    """The value as PostgreSQL would print it."""
    if value is None:
        return None
    if isinstance(value, bytes | bytearray):
        return f"\\x{value.hex()}"
    return json.dumps(json.loads(value)) if type_ == "VARIANT" else str(value)


def _live(request: pytest.FixtureRequest) -> DestinationKind:
    """The real account that the environment names; the contract runs over it when there is one."""
    config = live_config()
    assert config is not None, "the kind is known only when there is an account"
    database = fresh_database(config)
    request.addfinalizer(lambda: drop_database(database))
    kind = SnowflakeKind(database)
    kind.unusable_namespaces = kind.unusable_columns = frozenset()
    return kind


#: Makes each kind for one test; a kind may ask for fixtures, or skip where it cannot be reached.
KINDS: Mapping[str, Callable[[pytest.FixtureRequest], DestinationKind]] = {
    "memory": _in_memory,
    "postgres": lambda request: PostgresKind(request.getfixturevalue("destination")),
    "snowflake": lambda request: SnowflakeKind(request.getfixturevalue("snowflake_database")),
    **({"snowflake account": _live} if live_config() else {}),
}


def in_order(rows: Sequence[TextRow]) -> list[TextRow]:
    """The rows sorted, NULL after every text."""
    return sorted(rows, key=lambda row: [(value is None, value or "") for value in row])


def make(
    kind: DestinationKind,
    tables: Sequence[TableSchema],
    *,
    pipeline: str = "shop",
    namespace: str | None = None,
    targets: Mapping[TableId, TableId] | None = None,
    comments: bool = True,
) -> Destination:
    """A destination of these tables, not opened; they go where they come from unless told otherwise."""
    source: dict[str, Any] = {"host": "nowhere", "database": "nothing", "username": "nobody"}
    row = DestinationConfig(
        name="the_replica", type=kind.type, config={**kind.config, **({"schema": namespace} if namespace else {})}
    )
    config = PipelineConfig(
        id=1,
        name=pipeline,
        engine=Engine.DEBEZIUM,
        source=SourceConfig.model_validate({"name": "the_source", "connection": source}),
        destinations=(row,),
        tables=tuple(_table_config(table.id, (targets or {}).get(table.id), comments=comments) for table in tables),
    )
    return make_destination(row, config)


def _table_config(table: TableId, target: TableId | None, *, comments: bool) -> TableConfig:
    if target is None:
        return TableConfig(id=table, comments=comments)
    return TableConfig(id=table, comments=comments, target_namespace=target.namespace, target_name=target.name)

"""Decides which Snowflake table stands for which source table, and creates, alters and empties it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, TableOptions
from rosetta_dagster.cdc.destination.evolution import widens
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.columns import PresentColumn, read_columns
from rosetta_dagster.cdc.destination.snowflake.config import Deletes, SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, layout_of
from rosetta_dagster.cdc.destination.snowflake.names import Names
from rosetta_dagster.cdc.destination.snowflake.shape import Shape, every_column, names_after, shape_of, verify
from rosetta_dagster.cdc.errors import DestinationRejected, TableNotOurs
from rosetta_dagster.cdc.table_id import TableId

MARK_TYPE = "TIMESTAMP_TZ(6)"


class Targets:
    """The destination's tables by the source's."""

    def __init__(
        self,
        targets: Mapping[TableId, TableId],
        config: SnowflakeDestinationConfig,
        policy: SchemaPolicy = SchemaPolicy.APPLY,
        options: Mapping[TableId, TableOptions] = MappingProxyType({}),
    ) -> None:
        self._options = options
        self._names = Names(config.preserve_case)
        self._targets = targets
        self._config = config
        self._policy = policy

    def of(self, source: TableId) -> TableId:
        """Return the target of a source table, as Snowflake spells it."""
        return self._names.table(self._targets[source])

    def by_source(self) -> dict[TableId, TableId]:
        """Return every target by its source table, as Snowflake spells it."""
        return {source: self.of(source) for source in self._targets}

    def layout(self, schema: TableSchema, names: Mapping[int, str] | None = None) -> Layout:
        return layout_of(schema, self._targets[schema.id], self._config, names)

    def exists(self, session: Session, source: TableId) -> bool:
        """Return whether the table exists. Tables that have left the pipeline are not checked, and count as existing."""
        return source not in self._targets or bool(read_columns(session, self.of(source)))

    def prepare(self, session: Session, schema: TableSchema, before: TableSchema | None, ahead: Mapping[int, str]) -> None:
        """Create a table that was never copied. In a copied one, widen types and drop NOT NULL where the source has done so.

        `before` is the table's schema as of its last applied change; `ahead` are column names that run ahead of it. Every
        other difference waits for the changes that come with it.
        """
        layout, place = self.layout(schema), f"table {schema.id}"
        present = read_columns(session, layout.id)
        if not present and before is not None:
            raise DestinationRejected(
                f"Table {layout.id} of the destination is gone, and with it the rows of {schema.id}.", "Resync the table."
            )
        if not present:
            # Without CREATE SCHEMA on the database the statement is refused also where the schema exists.
            if not has_schema(session, layout.id.namespace):
                session.execute(sql.create_namespace(layout.id.namespace), place=place)
            session.execute(sql.create_table(layout), place=place)
        elif before is not None and before.columns != schema.columns and not ahead:
            for statement in self._wider(schema, before, present):
                session.execute(statement, place=place)

    def shape(self, session: Session, schemas: Sequence[TableSchema], ahead: Mapping[int, str]) -> Shape:
        """Return what the table needs for changes of these schemas, the first of which is that of the last applied change.

        Raise `SchemaChangeRefused` when a change cannot be followed.
        """
        names = names_after(schemas, ahead)
        verify(schemas, self._policy, names)
        columns = every_column(schemas)
        whole = self.layout(replace(schemas[-1], columns=tuple(columns), key=()), names)
        present = read_columns(session, whole.id)
        spelled = {column.number: name for column, name in zip(columns, whole.columns, strict=True)}
        first = {
            column.number: self._names.of(column.name if by_now is None or self._names.of(by_now) not in present else by_now)
            for column in schemas[0].columns
            for by_now in (_passed(column.number, ahead, names),)
        }
        return shape_of(schemas, whole, spelled, first, present, names)

    def reshape(self, session: Session, schema: TableSchema, before: TableSchema | None) -> None:
        """Give an empty table the source's columns. Columns that the source has dropped stay, and become nullable.

        Only columns that have changed at the source are changed: a table that somebody created with other types keeps
        them. A changed column that cannot hold the new type is dropped and added again.
        """
        layout, place = self.layout(schema), f"table {schema.id}"
        present = read_columns(session, layout.id)
        old = {(column.number, column.name, column.type) for column in before.columns} if before else set()
        wanted = dict(zip(layout.columns, layout.types, strict=True))
        for index, (column, (name, target)) in enumerate(zip(schema.columns, wanted.items(), strict=True)):
            found = present.get(name)
            is_other = bool(old) and (column.number, column.name, column.type) not in old
            if found is not None and is_other and not found.holds(target):
                session.execute(sql.drop_column(layout.id, name), place=place)
                found = None
            if found is None:
                session.execute(sql.add_column(layout.id, name, _added_type(layout, index)), place=place)
        if layout.deleted_at is not None and layout.deleted_at not in present:
            session.execute(sql.add_column(layout.id, layout.deleted_at, MARK_TYPE), place=place)
        required = {name for column, name in zip(schema.columns, layout.columns, strict=True) if column.not_null}
        for name in {self._names.of(name) for _, name, _ in old} - required:
            if name in present and present[name].not_null:
                session.execute(sql.drop_not_null(layout.id, name), place=place)
        if self._options.get(schema.id, TableOptions()).comments:
            for statement in sql.comments(layout, schema.comment, [column.comment for column in schema.columns]):
                session.execute(statement, place=place)

    def empty(self, session: Session, source: TableId, *, ours: bool) -> None:
        """Empty a table of ours before a copy. Raise `TableNotOurs` when another table holds rows."""
        target = self.of(source)
        if ours:
            session.execute(sql.empty(target))
        elif session.execute(sql.any_row(target)):
            raise TableNotOurs(
                f"Table {target} of the destination holds rows that Rosetta did not write.",
                f"Empty it (TRUNCATE TABLE {target}), or give table {source} another target in pipeline_tables.",
            )

    def row_count(self, session: Session, source: TableId) -> int:
        """Return the number of rows, without those marked as deleted; 0 for a table that is missing."""
        target = self.of(source)
        shown = session.describe(sql.show_tables(*target))
        counts = [int(table["rows"]) for table in shown if table["name"] == target.name]
        if not counts or self._config.deletes is Deletes.HARD:
            return sum(counts)
        mark = self._names.of(self._config.deleted_at_column)
        ((count,),) = session.execute(sql.count_rows(target, mark))
        return int(count)

    def _wider(self, schema: TableSchema, before: TableSchema, present: Mapping[str, PresentColumn]) -> Iterator[str]:
        now = {column.number: column for column in schema.columns}
        types = {column.number: type_ for column, type_ in zip(schema.columns, self.layout(schema).types, strict=True)}
        target = self.of(schema.id)
        for column in before.columns:
            found, after = present.get(self._names.of(column.name)), now.get(column.number)
            if found is None or after is None:
                continue
            if found.not_null and column.not_null and not after.not_null:
                yield sql.drop_not_null(target, found.name)
            is_wider = self._policy is SchemaPolicy.APPLY and column.type != after.type and widens(column.type, after.type)
            if is_wider and found.can_become(types[column.number]):
                yield sql.change_type(target, found.name, types[column.number].spelled)


def has_schema(session: Session, name: str) -> bool:
    return any(schema["name"] == name for schema in session.describe(sql.show_schemas(name)))


def _added_type(layout: Layout, index: int) -> str:
    return sql.constrained(layout.types[index].spelled, is_compared=layout.is_compared(index))


def _passed(number: int, ahead: Mapping[int, str], names: Mapping[int, str]) -> str | None:
    """Return the name that a column may have from an earlier attempt, when it has to get yet another one."""
    return ahead[number] if number in ahead and ahead[number] != names[number] else None

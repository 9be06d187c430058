"""Which table of Snowflake stands for which table of the source, and how it is made and emptied."""

from collections.abc import Mapping

from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.config import Deletes, SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, layout_of
from rosetta_dagster.cdc.destination.snowflake.names import Names
from rosetta_dagster.cdc.errors import TableNotOurs
from rosetta_dagster.cdc.schema import TableId, TableSchema


class Targets:
    """The destination's tables by the source's."""

    def __init__(self, targets: Mapping[TableId, TableId], config: SnowflakeDestinationConfig) -> None:
        self._names = Names(config.preserve_case)
        self._targets = targets
        self._config = config

    def of(self, source: TableId) -> TableId:
        """As Snowflake spells it."""
        return self._names.table(self._targets[source])

    def layout(self, schema: TableSchema) -> Layout:
        return layout_of(schema, self._targets[schema.id], self._config)

    def prepare(self, session: Session, schema: TableSchema) -> None:
        """Make the table when it is missing, and the columns that it lacks. Nothing is ever dropped."""
        layout, place = self.layout(schema), f"table {schema.id}"
        known = {name for (name,) in session.execute(sql.KNOWN_COLUMNS, [*layout.id])}
        if not known:
            session.execute(sql.create_namespace(layout.id.namespace), place=place)
            session.execute(sql.create_table(layout), place=place)
            return
        wanted = {name: target.type for name, target in zip(layout.columns, layout.types, strict=True)}
        if layout.deleted_at is not None:
            wanted[layout.deleted_at] = "TIMESTAMP_TZ(6)"
        for name, type_ in wanted.items():
            if name not in known:
                session.execute(sql.add_column(layout.id, name, type_), place=place)

    def empty(self, session: Session, source: TableId, *, ours: bool) -> None:
        """Make sure that a copy starts with an empty table. `TableNotOurs` when it holds rows of somebody else."""
        target = self.of(source)
        if ours:
            session.execute(sql.empty(target))
        elif session.execute(sql.any_row(target)):
            raise TableNotOurs(
                f"Table {target} of the destination holds rows that Rosetta did not write.",
                f"Empty it (TRUNCATE TABLE {target}), or give table {source} another target in pipeline_tables.",
            )

    def row_count(self, session: Session, source: TableId) -> int:
        """How many rows the table holds, without those marked as deleted; 0 when it does not exist yet."""
        target = self.of(source)
        if not session.execute(sql.TABLE_EXISTS, [*target]):
            return 0
        is_soft = self._config.deletes is Deletes.SOFT
        mark = self._names.of(self._config.deleted_at_column) if is_soft else None
        ((count,),) = session.execute(sql.count_rows(target, mark))
        return int(count)

"""Decides which rows the patterns of a pipeline give it, from the tables that exist at the source."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rosetta_dagster.cdc.config.patterns import is_matched, matches, specificity
from rosetta_dagster.cdc.config.pipeline import NAME_LIMIT, PipelineConfig, TableConfig
from rosetta_dagster.cdc.table_id import TableId

#: What the name of a target is made of.
_SCHEMA: Final = "{schema}"
TABLE: Final = "{table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the patterns of a pipeline have found at its source."""

    #: The rows of tables that patterns stand for. Tables that have a row of an operator are not among them.
    tables: tuple[TableConfig, ...] = ()
    #: Tables that match and are not added, and why.
    skipped: Mapping[TableId, str] = field(default_factory=dict)


def needs_discovery(config: PipelineConfig) -> bool:
    """Return whether patterns give the pipeline tables, or gave it some."""
    return bool(config.patterns) or any(table.by_pattern is not None for table in config.tables)


def row_of(pattern: TableConfig, table: TableId) -> TableConfig:
    """Return the row of a table as its pattern declares it."""
    given = pattern.model_dump(mode="json", exclude_defaults=True)
    return pattern.model_copy(
        update={
            "id": table,
            "target_namespace": _filled(pattern.target_namespace, table),
            "target_name": _filled(pattern.target_name, table),
            "by_pattern": json.dumps(given, sort_keys=True, ensure_ascii=False),
        }
    )


def rows_of(config: PipelineConfig, existing: Iterable[TableId]) -> dict[TableId, TableConfig]:
    """Return the rows that patterns give: of tables that exist, and of those that they gave a row before.

    A table that is dropped keeps its row, as one that an operator named does.
    """
    explicit = {table.id for table in config.tables if table.by_pattern is None}
    known = {table.id for table in config.tables} - explicit
    patterns = sorted(config.patterns, key=lambda each: specificity(each.id), reverse=True)
    found: dict[TableId, TableConfig] = {}
    for table in sorted({*existing, *known} - explicit):
        pattern = next((each for each in patterns if matches(each.id, table)), None)
        if pattern is not None and not is_matched(table, config.excluded):
            found[table] = row_of(pattern, table)
    return found


def limited(
    config: PipelineConfig,
    rows: Mapping[TableId, TableConfig],
    obstacles: Mapping[TableId, str],
    silent: Collection[TableId],
) -> Discovery:
    """Return the rows without the new ones that have an obstacle or are beyond `max_tables`.

    `silent` are tables that are not added and need no word, since their rows come with another table.
    """
    known = {table.id for table in config.tables}
    room = config.max_tables - sum(table.by_pattern is None or table.id in rows for table in config.tables)
    tables: list[TableConfig] = []
    skipped: dict[TableId, str] = {}
    for table, row in rows.items():
        if table in known:
            tables.append(row)
        elif (obstacle := obstacles.get(table) or _too_long(row)) is not None:
            skipped[table] = obstacle
        elif table not in silent and room > 0:
            tables.append(row)
            room -= 1
        elif table not in silent:
            skipped[table] = (
                f"The pipeline has {config.max_tables} tables already. Raise the limit: "
                f"rosetta pipeline edit {config.name} --max-tables …"
            )
    return Discovery(tables=tuple(tables), skipped=skipped)


def _too_long(row: TableConfig) -> str | None:
    too_long = [name for name in (row.target_namespace, row.target_name) if name is not None and len(name) > NAME_LIMIT]
    return f"Its name at the destinations would have more than {NAME_LIMIT} characters." if too_long else None


def _filled(template: str | None, table: TableId) -> str | None:
    return None if template is None else template.replace(_SCHEMA, table.namespace).replace(TABLE, table.name)

"""Builds the metadata of the stream's asset: a table of the pipeline's tables, and figures of the run."""

from collections.abc import Iterable, Sequence

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.report import Report
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.specs import PipelineSpecs

#: Tables that the summary names, those that are set aside first. The rest are counted.
SHOWN_TABLES = 100


def stream_metadata(specs: PipelineSpecs, records: Iterable[TableRecord], report: Report) -> dict[str, dg.MetadataValue]:
    """Return the metadata. The table counts rows since each table was added, the figures those of this run."""
    shown = sorted(records, key=lambda record: (record.state is not TableState.ERROR, record.id))
    set_aside = sum(record.state is TableState.ERROR for record in shown)
    metadata: dict[str, dg.MetadataValue] = {
        "tables": dg.MetadataValue.md(markdown(specs, shown)),
        "table_count": dg.MetadataValue.int(len(shown)),
        "tables_set_aside": dg.MetadataValue.int(set_aside),
        "rows_copied": dg.MetadataValue.int(sum(counts.copied for counts in report.tables.values())),
        "rows_applied": dg.MetadataValue.int(sum(counts.applied for counts in report.tables.values())),
    }
    if report.lag_seconds is not None:
        metadata["lag_seconds"] = dg.MetadataValue.float(report.lag_seconds)
    return metadata


def markdown(specs: PipelineSpecs, records: Sequence[TableRecord]) -> str:
    """Return a line for each table: its replicas, its state, its rows since it was added, and why it was set aside."""
    lines = ["| table | state | rows copied | rows applied | last change | error |", "|---|---|---:|---:|---|---|"]
    lines += [_line(specs, record) for record in records[:SHOWN_TABLES]]
    if len(records) > SHOWN_TABLES:
        lines.append(f"\n… and {len(records) - SHOWN_TABLES:,} more tables.")
    return "\n".join(lines)


def _line(specs: PipelineSpecs, record: TableRecord) -> str:
    changed = "" if record.last_change_time is None else f"{record.last_change_time:%Y-%m-%d %H:%M:%S %Z}"
    cells = [
        _linked(specs, record.id), record.state.value, f"{record.rows_copied:,}", f"{record.rows_applied:,}", changed,
        _plain(record.error or ""),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _linked(specs: PipelineSpecs, table: TableId) -> str:
    """Return the table's name with a link to its replica at each destination."""
    keys = {destination: spec.key for (destination, source), spec in specs.tables.items() if source == table}
    links = [f"[{_plain(name)}](/assets/{'/'.join(key.path)})" for name, key in keys.items()]
    return f"{_plain(str(table))} → {', '.join(links)}" if links else _plain(str(table))


def _plain(text: str) -> str:
    """Escape a text so that it neither ends the cell nor is read as markup."""
    escaped = "".join(f"\\{character}" if character in r"\|`*_[]<>" else character for character in text)
    return " ".join(escaped.split())

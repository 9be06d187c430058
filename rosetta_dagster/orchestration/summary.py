"""What the stream's asset shows of a pipeline: the table of its tables, and the way to its run and its job."""

from collections.abc import Iterable, Sequence

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.report import Report
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.specs import PipelineSpecs

#: Tables that the summary names; those that are set aside come first, and the rest are counted.
SHOWN_TABLES = 100


def stream_metadata(specs: PipelineSpecs, records: Iterable[TableRecord], report: Report) -> dict[str, dg.MetadataValue]:
    """The summary and its figures: of each table since it was added, in all of this run."""
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
    """A line for each table: where its replicas are, its state, its rows since it was added, and what set it aside."""
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
    """The table's name; with one destination it leads to the replica, with more each of them is named."""
    keys = {destination: spec.key for (destination, source), spec in specs.tables.items() if source == table}
    links = [f"[{_plain(name)}](/assets/{'/'.join(key.path)})" for name, key in keys.items()]
    return f"{_plain(str(table))} → {', '.join(links)}" if links else _plain(str(table))


def _plain(text: str) -> str:
    """A text that nothing in it makes end the cell or look like markup."""
    escaped = "".join(f"\\{character}" if character in r"\|`*_[]<>" else character for character in text)
    return " ".join(escaped.split())

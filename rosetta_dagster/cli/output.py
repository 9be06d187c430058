"""Formats what the command line prints: tables that fit the terminal, JSON for scripts. No colours, nothing cut off."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rosetta_dagster.cdc.operate.status import PipelineStatus
from rosetta_dagster.cdc.source.preflight import Finding
from rosetta_dagster.cdc.store.records import TableRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: In a pipe, lines are as long as they have to be.
_UNLIMITED = 100_000

_GAP = "  "

Row = Mapping[str, object]

#: The option of every command that lists or shows.
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())


def to_json(value: "DataclassInstance") -> dict[str, Any]:
    return asdict(value)


def print_rows(rows: Sequence[Row], *, empty: str) -> None:
    """Print rows of the same columns; the text `empty` when there are none."""
    typer.echo("\n".join(lines_of(rows, terminal_width())) if rows else empty)


def terminal_width() -> int:
    return shutil.get_terminal_size((_UNLIMITED, 24)).columns


def lines_of(rows: Sequence[Row], width: int) -> list[str]:
    """Format rows as a table, or as a block for each row when the table is wider than that."""
    texts = [{name: "-" if value in (None, "") else str(value) for name, value in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in texts)) for name in rows[0]}
    if sum(widths.values()) + len(_GAP) * (len(widths) - 1) <= width:
        head = {name: name for name in widths}
        return [_GAP.join(row[name].ljust(widths[name]) for name in widths).rstrip() for row in (head, *texts)]
    longest = max(map(len, widths))
    blocks = [_block(row, longest) for row in texts]
    return [line for block in blocks for line in block]


def _block(row: Mapping[str, str], longest: int) -> list[str]:
    """Format one row: the first column is the title, and each of the others has a line."""
    (_, title), *fields = row.items()
    return [title, *(f"{_GAP}{name.ljust(longest)}{_GAP}{value}" for name, value in fields)]


def pipeline_row(status: PipelineStatus) -> Row:
    """Return the columns of a pipeline. The lag of a run that has ended is not shown."""
    state = status.state
    row = {
        "pipeline": state.name,
        "status": state.status,
        "run": state.run_status,
        "health": state.health,
        "lag": None if status.lag_seconds is None else f"{status.lag_seconds:.2f} s",
        "WAL": None if state.wal_size is None else f"{state.wal_size / 2**20:,.0f} MiB",
        "copied": f"{state.rows_copied:,}",
        "applied": f"{state.rows_applied:,}",
        "success": ago(state.last_success_time),
    }
    return row if status.rate is None else {**row, "rows/s": f"{status.rate:,.0f}"}


def table_row(record: TableRecord) -> Row:
    return {
        "table": record.id,
        "state": record.state,
        "copied": f"{record.rows_copied:,}",
        "applied": f"{record.rows_applied:,}",
        "last change": ago(record.last_change_time),
        "error": record.error,
    }


def skipped_lines(status: PipelineStatus) -> list[str]:
    """Return a line for each table that matches a pattern and is not replicated, under a heading."""
    return ["", "skipped:", *(f"{_GAP}{each.id}: {each.reason}" for each in status.skipped)] if status.skipped else []


def explanation_lines(statuses: Sequence[PipelineStatus]) -> list[str]:
    """Return a line for each pipeline of which an operator has to know something."""
    return [f"{status.state.name}: {status.explanation}" for status in statuses if status.explanation]


def status_json(status: PipelineStatus) -> dict[str, Any]:
    """Return a pipeline as JSON: its state, with the lag only while a run streams, and what is derived from it."""
    return {
        **to_json(status.state),
        "lag_seconds": status.lag_seconds,
        "rows_per_second": status.rate,
        "explanation": status.explanation,
        "tables": [{**to_json(record), "id": str(record.id)} for record in status.tables],
        "skipped_tables": [{"id": str(each.id), "reason": each.reason} for each in status.skipped],
    }


def ago(moment: datetime | None) -> str | None:
    return None if moment is None else f"{(datetime.now(UTC) - moment).total_seconds():.0f} s ago"


def byte_text(count: int) -> str:
    """Format a number of bytes.

    >>> byte_text(900), byte_text(5 * 2**20)
    ('900 B', '5.0 MiB')
    """
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def finding_line(finding: Finding) -> str:
    return f"{finding.severity}: {finding}"

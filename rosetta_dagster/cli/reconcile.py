"""`rosetta reconcile`: compares source and destinations row by row, and repairs what differs when asked to."""

from typing import Annotated, Any

import typer

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation, reconcile
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import print_json
from rosetta_dagster.settings import open_store

#: Keys that are named for each table. The rest are counted.
SHOWN_KEYS = 20


def reconcile_command(
    name: PipelineName,
    *,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table, as namespace.name; repeatable.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair the rows that differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Compare source and destinations row by row.

    The pipeline has to run. Exits with 1 if rows differ.
    """
    with open_store() as store:
        if store.status(name) is Status.PAUSE:
            raise ConfigurationError(f"Pipeline {name} is paused, so it cannot catch up.", f"Start it: rosetta start {name}")
        config = store.pipeline(name)
    found = []
    for each in reconcile(config, tables=[TableId.parse(text) for text in table or ()], mend=repair):
        found.append(each)
        if not as_json:
            typer.echo(_line(each))
    if as_json:
        print_json([_json(each) for each in found])
    if any(each.left or each.problem for each in found):
        raise typer.Exit(1)


def _line(found: Reconciliation) -> str:
    place = f"{found.table} at {found.destination}:"
    if found.comparison is None:
        return f"{place} not compared. {found.problem or ''}".rstrip()
    counts = [f"{found.comparison.row_count:,} rows", f"{len(found.left):,} differ"]
    if found.repaired_count:
        counts.append(f"{found.repaired_count:,} repaired")
    if found.comparison.in_flight:
        counts.append(f"{len(found.comparison.in_flight):,} changed meanwhile")
    if found.left_out:
        counts.append(f"masked columns not compared: {', '.join(found.left_out)}")
    return f"{place} {', '.join(counts)}{_keys(found)}"


def _keys(found: Reconciliation) -> str:
    shown = [f"  ({', '.join(each.key)}) {each.kind.lower()}" for each in found.left[:SHOWN_KEYS]]
    if len(found.left) > SHOWN_KEYS:
        shown.append(f"  and {len(found.left) - SHOWN_KEYS:,} more")
    return "".join(f"\n{line}" for line in shown)


def _json(found: Reconciliation) -> dict[str, Any]:
    comparison = found.comparison
    return {
        "table": str(found.table),
        "destination": found.destination,
        "problem": found.problem,
        "rows": comparison.row_count if comparison else None,
        "in_flight": len(comparison.in_flight) if comparison else 0,
        "repaired": found.repaired_count,
        "not_compared": list(found.left_out),
        "differences": [{"key": each.key, "kind": each.kind} for each in found.left],
    }

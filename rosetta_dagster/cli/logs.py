"""`rosetta logs`: what a pipeline's runs have logged in Dagster, the newest last."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import Json, print_json
from rosetta_dagster.settings import open_store, read_settings, use_demo_of_dagster

if TYPE_CHECKING:
    import dagster as dg

#: Seconds between two looks for further lines.
_INTERVAL = 1.0

#: Events of Dagster that say something of the pipeline. The others are about Dagster's own steps.
_EVENTS = frozenset({"RUN_START", "RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED", "STEP_FAILURE"})


def logs(
    name: PipelineName,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the newest run of a pipeline has logged. DAGSTER_HOME has to be that of the deployment."""
    with open_store() as store:
        store.state(name)
    with _instance() as instance:
        run_id = _newest_run(instance, name)
        cursor, found = _read(instance, run_id, None)
        if as_json:
            print_json(found[-lines:])
            return
        typer.echo("\n".join(map(_line, found[-lines:])) or f"No run of {name} has logged anything yet.")
        if follow:
            with suppress(KeyboardInterrupt):
                _follow(instance, name, run_id, cursor)


def _follow(instance: "dg.DagsterInstance", name: str, run_id: str | None, cursor: str | None) -> None:
    while True:
        sleep(_INTERVAL)
        cursor, found = _read(instance, run_id, cursor)
        for entry in found:
            typer.echo(_line(entry))
        if (newest := _newest_run(instance, name)) != run_id:
            run_id, cursor = newest, None


def _instance() -> "dg.DagsterInstance":
    if home := read_settings().dagster_home:
        # It may stand in the file alone, where Dagster does not read it for this process.
        os.environ["DAGSTER_HOME"] = home
    use_demo_of_dagster()
    if not os.environ.get("DAGSTER_HOME"):
        raise ConfigurationError(
            "DAGSTER_HOME is not set, so it is not known where the runs are recorded.",
            "Set it, or add it to .env: the directory that Dagster's own processes have.",
        )
    # Dagster takes a second to load.
    import dagster as dg

    try:
        return dg.DagsterInstance.get()
    except dg.DagsterError as error:
        raise ConfigurationError(f"DAGSTER_HOME cannot be used: {error}", "Correct it, or its dagster.yaml.") from None


def _newest_run(instance: "dg.DagsterInstance", name: str) -> str | None:
    import dagster as dg

    from rosetta_dagster.orchestration.naming import PIPELINE_TAG

    runs = instance.get_runs(dg.RunsFilter(tags={PIPELINE_TAG: name}), limit=1)
    return runs[0].run_id if runs else None


def _read(instance: "dg.DagsterInstance", run_id: str | None, cursor: str | None) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the entries after the cursor, and the cursor behind them."""
    if run_id is None:
        return None, []
    found = instance.get_records_for_run(run_id, cursor)
    return found.cursor, [shown for record in found.records for shown in _shown(record.event_log_entry)]


def _shown(entry: Any) -> Iterator[dict[str, Any]]:
    if entry.is_dagster_event and entry.dagster_event_type.value not in _EVENTS:
        return
    error = getattr(entry.dagster_event.event_specific_data, "error", None) if entry.is_dagster_event else None
    reason = f" {error.cause.message if error.cause else error.message}".rstrip() if error is not None else ""
    message = entry.dagster_event.message if entry.is_dagster_event else entry.user_message
    level = "ERROR" if entry.is_dagster_event and "FAILURE" in entry.dagster_event_type.value else _level(entry.level)
    moment = datetime.fromtimestamp(entry.timestamp, UTC).isoformat(timespec="milliseconds")
    yield {"time": moment, "level": level, "run": entry.run_id, "message": f"{message}{reason}"}


def _level(number: int | str) -> str:

    return number if isinstance(number, str) else logging.getLevelName(number)


def _line(entry: dict[str, Any]) -> str:
    return f"{entry['time']}  {entry['level']:<8}  {entry['message']}"

"""`rosetta demo`: runs until Ctrl-C and shows the state of each pipeline in a line."""

import contextlib
import shlex
import shutil
import signal
import sys
import threading

from rich.console import Console

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.records import PipelineState
from rosetta_dagster.demo.environment import ANALYTICS, PIPELINE, DemoEnvironment
from rosetta_dagster.demo.shop import Writer
from rosetta_dagster.embedded.postgres import EmbeddedPostgres

_EXPLANATION = """
Try this in the configuration database:
  UPDATE pipelines SET status = 'PAUSE' WHERE name = 'shop';
  UPDATE pipelines SET status = 'START' WHERE name = 'shop';
  SELECT p.name, pm.health_status, pm.wal_size, pm.last_success_time
  FROM pipelines p JOIN pipeline_metadata pm ON p.id = pm.pipeline_id;

or in another terminal, in this directory:
  {rosetta} status --watch
  {rosetta} status shop

Ctrl-C ends the demo.
"""


def watch(*, port: int | None, postgres_port: int | None) -> None:
    """Run the demo until SIGINT or SIGTERM. All its processes have ended on return."""
    console = Console()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    environment = DemoEnvironment(port=port, postgres_port=postgres_port)
    console.print("Starting PostgreSQL, an emulated Snowflake and Dagster …")
    with environment:
        for pipeline in (PIPELINE, ANALYTICS):
            environment.store.set_status(pipeline, Status.START)
        writer = Writer(environment.postgres.url("shop"))
        writer.start()
        try:
            _explain(console, environment)
            _show(console, environment, writer, stopping)
        finally:
            writer.stop()
            console.print("\nStopping: pausing the pipelines, ending Dagster and the databases …")
    console.print("Stopped. Nothing is left running.")


def _explain(console: Console, environment: DemoEnvironment) -> None:
    postgres = environment.postgres
    console.print(f"\nDagster's UI      [bold]{environment.url}/asset-groups[/bold]")
    for name, database in (("Configuration", "config"), ("Source", "shop"), ("Destination", "warehouse")):
        console.print(f"{name:<17} {_psql(postgres)} '{postgres.url(database)}'", soft_wrap=True, highlight=False)
    console.print(f"{'Snowflake':<17} {environment.snowflake.describe()}", soft_wrap=True, highlight=False)
    console.print(_EXPLANATION.format(rosetta=_command()), highlight=False, soft_wrap=True)


def _psql(postgres: EmbeddedPostgres) -> str:
    """Return how this terminal runs `psql`: by its name where it is on the path, else that of the wheel."""
    return "psql" if shutil.which("psql") else shlex.quote(str(postgres.program("psql")))


def _command() -> str:
    """Return how this terminal runs `rosetta`: by its name where it is on the path."""
    return "rosetta" if shutil.which("rosetta") else f"{sys.executable} -m rosetta_dagster"


def _show(console: Console, environment: DemoEnvironment, writer: Writer, stopping: threading.Event) -> None:
    with console.status("") as status, contextlib.suppress(KeyboardInterrupt):
        while not stopping.wait(1.0):
            states = [environment.store.state(pipeline) for pipeline in (PIPELINE, ANALYTICS)]
            lines = [_line(state) for state in states]
            status.update("\n  ".join([*lines, f"written {writer.transaction_count:,} transactions"]))


def _line(state: PipelineState) -> str:
    lag = f"{state.lag_seconds:.2f} s" if state.lag_seconds is not None else "-"
    return (
        f"{state.name:<10} {state.status} / {state.run_status}   copied {state.rows_copied:,} rows   "
        f"applied {state.rows_applied:,} changes   lag {lag}"
    )

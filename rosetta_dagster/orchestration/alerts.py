"""Sends what is wrong to the receivers of alerts: runs that failed, and checks that fail, grouped by pipeline.

The sensor's cursor holds what each receiver has accepted, so that a message is sent again until then, and not after.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import dagster as dg
from pydantic import BaseModel

from rosetta_dagster.alerts.due import Sent, due, eased
from rosetta_dagster.alerts.outbox import Delivery, Outbox
from rosetta_dagster.alerts.problem import Problem
from rosetta_dagster.alerts.receivers import Receiver, receivers_of
from rosetta_dagster.orchestration.failed_runs import FailedRun, note_failed_runs
from rosetta_dagster.orchestration.problems import find_problems, turn_of
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.settings import Settings

#: What each receiver has accepted: by receiver, subject and problem.
SentByReceiver: TypeAlias = dict[str, dict[str, dict[str, Sent]]]

#: Seconds between two ticks of the sensor.
ALERT_INTERVAL = 10

#: Seconds that a tick waits for the receivers. A slower one is asked for its outcome by the next tick.
WAIT_SECONDS = 3.0

#: Failed runs are looked for from so many seconds before the last tick, since clocks differ; without a tick, before now.
OVERLAP_SECONDS = 60.0


class AlertState(BaseModel):
    """The cursor of the sensor."""

    #: Until when failed runs have been read, in seconds since the epoch.
    read_until: float | None = None
    #: Failed runs that have not recovered, by subject.
    failed_runs: dict[str, FailedRun] = {}
    #: The problems of tables, by pipeline.
    of_tables: dict[str, list[Problem]] = {}
    #: The pipeline whose tables are inspected next.
    next_pipeline: int = 0
    sent: SentByReceiver = {}


def alert_sensors(loaded: Sequence[PipelineSpecs], settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensor that sends alerts; none without a receiver."""
    receivers = receivers_of(settings.rosetta_alerts, settings.rosetta_alert_webhook)
    return [_alert_sensor(loaded, receivers)] if receivers else []


def _alert_sensor(loaded: Sequence[PipelineSpecs], receivers: Sequence[Receiver]) -> dg.SensorDefinition:
    outbox = Outbox()

    @dg.sensor(
        name="rosetta_alert_sensor",
        description="Sends failed runs and failing checks, and their recovery, to the receivers of alerts.",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        state = AlertState.model_validate_json(context.cursor or "{}")
        now = datetime.now(UTC).timestamp()
        since = (now if state.read_until is None else state.read_until) - OVERLAP_SECONDS
        failed_runs = note_failed_runs(context.instance, loaded, state.failed_runs, since=since, now=now)
        turn, after_turn = turn_of(loaded, state.next_pipeline)
        found = find_problems(context.instance, loaded, turn, failed_runs, state.of_tables)
        sent = {each.name: state.sent.get(each.name, {}) for each in receivers}
        for failure in _send(outbox, receivers, found.problems, sent):
            context.log.warning("%s is not reached, and tried again: %s", failure.receiver, failure.error)
        after = AlertState(
            read_until=now,
            failed_runs=found.failed_runs,
            of_tables=found.of_tables,
            next_pipeline=after_turn,
            sent=sent,
        )
        return dg.SensorResult(cursor=after.model_dump_json(), skip_reason=f"{len(found.problems)} problems.")

    return sensor


def _send(
    outbox: Outbox, receivers: Sequence[Receiver], problems: Sequence[Problem], sent: SentByReceiver
) -> list[Delivery]:
    """Send what is due to each receiver that is not busy, and record what they have accepted. Return the failures."""
    # In this order: what ends in between belongs to a receiver that counts as busy.
    idle = [each for each in receivers if not outbox.is_busy(each.name)]
    failures = _record(outbox, sent)
    now = datetime.now(UTC).timestamp()
    for receiver in idle:
        sent[receiver.name] = eased(sent[receiver.name], problems)
        messages = due(problems, sent[receiver.name], least=receiver.least, repeat_seconds=receiver.repeat_seconds, now=now)
        if messages:
            outbox.send(receiver, messages)
    outbox.wait(WAIT_SECONDS)
    return failures + _record(outbox, sent)


def _record(outbox: Outbox, sent: SentByReceiver) -> list[Delivery]:
    """Record what has been accepted since the last call. Return the failures."""
    finished = outbox.take_finished()
    for delivery in finished:
        if delivery.error is None and delivery.receiver in sent:
            others = {
                subject: problems
                for subject, problems in sent[delivery.receiver].items()
                if subject != delivery.due.message.subject
            }
            after = {delivery.due.message.subject: delivery.due.after} if delivery.due.after else {}
            sent[delivery.receiver] = {**others, **after}
    return [delivery for delivery in finished if delivery.error is not None]

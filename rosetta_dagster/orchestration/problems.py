"""Finds what is wrong now, from Dagster's records: failed runs that have not recovered, and checks that fail."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.alerts.problem import Problem, Severity
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.records import RunStatus
from rosetta_dagster.orchestration.checks import check_specs
from rosetta_dagster.orchestration.failed_runs import FailedRun
from rosetta_dagster.orchestration.naming import (
    HEALTH,
    NOT_EVALUATED,
    RECONCILIATION,
    ROW_COUNT,
    RUN_STATUS,
    SCHEMA_DRIFT,
    WANTED_STATUS,
    job_name,
)
from rosetta_dagster.orchestration.reported_checks import Evaluated, latest_evaluated
from rosetta_dagster.orchestration.specs import PipelineSpecs

#: The name of the problem that a failed run is.
RUN = "run"

#: Tables whose checks one tick reads, those of one pipeline at least: Dagster's records are read for each of them.
TABLES_PER_TICK = 500

#: Problems of tables that are kept of one pipeline, the worst first: the sensor's cursor has to stay small.
TABLE_PROBLEM_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a tick has found."""

    problems: list[Problem]
    #: The failed runs that have not recovered.
    failed_runs: dict[str, FailedRun]
    #: The problems of tables, by pipeline. Those whose turn it was not are as they were.
    of_tables: dict[str, list[Problem]]


def turn_of(loaded: Sequence[PipelineSpecs], first: int) -> tuple[list[PipelineSpecs], int]:
    """Return the pipelines whose tables are inspected by a tick that begins with this one, and where the next begins."""
    turn: list[PipelineSpecs] = []
    tables = 0
    for offset in range(len(loaded)):
        pipeline = loaded[(first + offset) % len(loaded)]
        tables += len(pipeline.tables)
        if turn and tables > TABLES_PER_TICK:
            break
        turn.append(pipeline)
    return turn, (first + len(turn)) % max(1, len(loaded))


def find_problems(
    instance: dg.DagsterInstance,
    loaded: Sequence[PipelineSpecs],
    turn: Collection[PipelineSpecs],
    failed_runs: Mapping[str, FailedRun],
    of_tables: Mapping[str, list[Problem]],
) -> Found:
    """Return what is wrong now: with all streams, and with the tables of the pipelines whose turn it is."""
    runs, tables = dict(failed_runs), dict[str, list[Problem]]()
    problems: list[Problem] = []
    for each in loaded:
        name = each.shape.name
        stream = latest_evaluated(instance, [spec.key for spec in check_specs(each.stream.key)])
        run = _unrecovered(name, runs.pop(name, None), list(stream.values()))
        failing = [found.evaluation for found in stream.values() if not found.evaluation.passed]
        repeated = {found.check_name for found in failing if run is not None and _repeats_run(found)}
        problems += [_of_check(name, found, found.check_name) for found in failing if found.check_name not in repeated]
        if run is not None:
            runs[name] = run
            problems.append(_of_run(name, run, frozenset(repeated)))
        tables[name] = _of_tables(instance, each) if each in turn else of_tables.get(name, [])
        problems += tables[name]
    problems += [_of_run(subject, run) for subject, run in runs.items() if run.pipeline is None]
    return Found(problems=problems, failed_runs=runs, of_tables={name: found for name, found in tables.items() if found})


def _of_tables(instance: dg.DagsterInstance, specs: PipelineSpecs) -> list[Problem]:
    """Return the failing checks of a pipeline's tables. `health` speaks for those that are set aside.

    A check that could not be evaluated repeats what is wrong with the stream.
    """
    keys = [dg.AssetCheckKey(key, check) for key in specs.table_keys for check in (SCHEMA_DRIFT, ROW_COUNT)]
    found = [
        _of_check(specs.shape.name, each.evaluation, f"{key.name} of {key.asset_key.to_user_string()}")
        for key, each in latest_evaluated(instance, keys).items()
        if not each.evaluation.passed and NOT_EVALUATED not in each.evaluation.metadata
    ]
    return sorted(found, key=lambda each: (-each.severity.rank, each.name))[:TABLE_PROBLEM_LIMIT]


def _unrecovered(name: str, known: FailedRun | None, stream: Sequence[Evaluated]) -> FailedRun | None:
    """Return the failed run of a pipeline; None when there is none, or when it has recovered."""
    if known is not None and not any(_shows_recovery(found, known.at) for found in stream):
        return known
    # The check is written before the run has ended: it is the first to say so.
    return next((run for found in stream if (run := _failed_run(name, found)) is not None), None)


def _shows_recovery(found: Evaluated, failed_at: float) -> bool:
    """Return whether the pipeline streams again, or was paused, since its run failed. A run that only begins may fail."""
    if found.evaluation.check_name != HEALTH or found.at <= failed_at:
        return False
    is_paused = _text(found.evaluation, WANTED_STATUS) == Status.PAUSE.value
    return is_paused or _text(found.evaluation, RUN_STATUS) == RunStatus.STREAMING.value


def _failed_run(name: str, found: Evaluated) -> FailedRun | None:
    """Return the failed run that the check `health` reports; None when it reports something else."""
    check, run_id = found.evaluation, _text(found.evaluation, "run")
    if (
        check.passed
        or check.check_name != HEALTH
        or _text(check, RUN_STATUS) != RunStatus.FAILED
        or not isinstance(run_id, str)
    ):
        return None
    return FailedRun(run_id=run_id, pipeline=name, job=job_name(name), cause=check.description or "", at=found.at)


def _repeats_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Return whether the check only repeats the failed run: an unreachable source fails both."""
    return evaluation.check_name == HEALTH or NOT_EVALUATED in evaluation.metadata


def _text(evaluation: dg.AssetCheckEvaluation, key: str) -> object:
    found = evaluation.metadata.get(key)
    return None if found is None else found.value


def _of_check(pipeline: str, found: dg.AssetCheckEvaluation, name: str) -> Problem:
    """Return the problem of a failing check. The description of `reconciliation` names rows, which stay in Dagster."""
    said = "The check names the rows that differ." if found.check_name == RECONCILIATION else found.description or ""
    is_error = found.severity is dg.AssetCheckSeverity.ERROR
    text = f"{pipeline}: {name} {'fails' if is_error else 'warns'}. {said}".strip()
    severity = Severity.ERROR if is_error else Severity.WARNING
    # Which tables are set aside. Other descriptions hold figures that change with each evaluation.
    cause = said if found.check_name == HEALTH and not is_error else ""
    return Problem(subject=pipeline, name=name, severity=severity, text=text, cause=cause)


def _of_run(subject: str, run: FailedRun, repeated: frozenset[str] = frozenset()) -> Problem:
    what = f"job {run.job}" if run.pipeline is None else f"pipeline {run.pipeline}"
    text = f"{what} failed. {run.cause} (run {run.run_id})"
    return Problem(
        subject=subject,
        name=RUN,
        severity=Severity.ERROR,
        text=text,
        cause=run.cause,
        is_event=run.pipeline is None,
        covers=repeated,
    )

"""The process that evaluates the control sensor at its interval, for the part `idle-30`.

Dagster's storage is SQLite, and lists a live run for every pipeline. Each line on stdin is a number of ticks to evaluate;
the answer is the seconds of CPU that they used.
"""

import sys
import time

import dagster as dg
from dagster._core.test_utils import instance_for_test

from bench.supervised import run_id
from rosetta_dagster.orchestration import rosetta_definitions
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, job_name
from rosetta_dagster.settings import open_store, read_settings


def main() -> None:
    definitions = rosetta_definitions()
    with instance_for_test() as instance:
        _start_runs(definitions, instance)
        for line in sys.stdin:
            sys.stdout.write(f"{_ticks(definitions, instance, int(line))}\n")
            sys.stdout.flush()


def _start_runs(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    with open_store() as store:
        names = [shape.name for shape in store.shapes()]
    for name in names:
        instance.create_run_for_job(
            definitions.resolve_job_def(job_name(name)),
            run_id=run_id(name),
            status=dg.DagsterRunStatus.STARTED,
            tags={PIPELINE_TAG: name},
        )


def _ticks(definitions: dg.Definitions, instance: dg.DagsterInstance, count: int) -> float:
    """Return the seconds of CPU within the ticks alone. Each is followed by the rest of its interval."""
    used, interval = 0.0, read_settings().poll_interval_seconds
    for _ in range(count):
        began, used_before = time.monotonic(), time.process_time()
        _tick(definitions, instance)
        used += time.process_time() - used_before
        time.sleep(max(0.0, began + interval - time.monotonic()))
    return used


def _tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    sensor = definitions.resolve_sensor_def("rosetta_control_sensor")
    with dg.build_sensor_context(instance, repository_def=definitions.get_repository_def()) as context:
        if sensor.evaluate_tick(context).run_requests:
            raise RuntimeError("a pipeline does not run")


if __name__ == "__main__":
    main()

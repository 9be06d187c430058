"""Runs a pipeline's job as Dagster does, while a test operates it."""

import threading
from collections.abc import Callable
from typing import Any

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings


def run_while(
    store: Store, settings: Settings, instance: dg.DagsterInstance, name: str, operate: Callable[[], None], **more: Any
) -> dg.ExecuteInProcessResult:
    """Run the pipeline's job in this thread, as a run's process does, while another thread does this; then pause it.

    `more` is passed to `build`.
    """
    errors: list[BaseException] = []

    def operator() -> None:
        try:
            operate()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            # The store of the test is of this thread too: statements take turns.
            store.set_status(name, Status.PAUSE)

    often = settings.model_copy(update={"materialize_interval_seconds": 1})
    job = build(store.shapes(), often, **more).resolve_job_def(f"rosetta_{name}")
    thread = threading.Thread(target=operator)
    thread.start()
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    thread.join()
    for error in errors:
        raise error
    return result

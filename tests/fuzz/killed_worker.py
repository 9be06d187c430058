"""Runs one pipeline in a process that is killed later. Its input is one line of JSON: the configuration and the limits."""

import json
import sys

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.run.worker import Worker
from tests.fuzz.limits import set_limits


def main() -> None:
    given = json.loads(sys.stdin.buffer.readline())
    set_limits(given["change_limit"], is_confirmed=given["is_confirmed"])
    worker = Worker(PipelineConfig.model_validate(given["config"]))
    worker.start()
    # Until the process is killed.
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()

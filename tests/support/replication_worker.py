"""Runs one pipeline in a process of its own, so that a test can kill it. Its input is the configuration, as JSON."""

import sys

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.run.worker import Worker


def main() -> None:
    worker = Worker(PipelineConfig.model_validate_json(sys.stdin.buffer.readline()))
    worker.start()
    # Until the test closes the pipe, or kills the process.
    sys.stdin.buffer.read()
    sys.exit(0 if worker.stop(30) else 1)


if __name__ == "__main__":
    main()

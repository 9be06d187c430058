"""The process that is measured: a worker of one pipeline. Its configuration comes as one line of JSON."""

import sys

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.run.worker import Worker


def main() -> int:
    worker = Worker(PipelineConfig.model_validate_json(sys.stdin.buffer.readline()))
    worker.start()
    # Until the other side closes the pipe.
    sys.stdin.buffer.read()
    has_ended = worker.stop(30)
    worker.wait(0)
    return 0 if has_ended else 1


if __name__ == "__main__":
    sys.exit(main())

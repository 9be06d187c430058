"""A worker in a process of its own, which a test may kill."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rosetta_dagster.cdc.config.pipeline import PipelineConfig


@contextmanager
def worker_of(config: PipelineConfig) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.support.replication_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(with_secrets(config)).encode() + b"\n")
        worker.stdin.flush()
        yield worker


def with_secrets(config: PipelineConfig) -> dict[str, object]:
    values: dict[str, object] = config.model_dump(mode="json")
    password = config.source.connection.password
    assert password is not None
    source: dict[str, object] = config.source.model_dump(mode="json")
    source["connection"] = {**config.source.connection.model_dump(mode="json"), "password": password.get_secret_value()}
    return {**values, "source": source}

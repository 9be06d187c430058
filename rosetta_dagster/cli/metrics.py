"""`rosetta serve-metrics`: the figures of every pipeline for Prometheus, and answers for probes, until Ctrl-C or SIGTERM."""

import signal
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.settings import configured_store


def serve_metrics(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8001,
) -> None:
    """Serve /metrics, /health, /health/pipelines and /ready. Anybody who reaches the port may read names and figures."""
    try:
        from rosetta_dagster.metrics.exporter import Exporter
        from rosetta_dagster.metrics.server import MetricsServer
    except ModuleNotFoundError:
        raise ConfigurationError(
            "The metrics need the package prometheus_client, which is not installed.",
            "Run: pip install 'rosetta-dagster[metrics]'",
        ) from None
    # Nothing is migrated and no secret is read: this process needs no SECRET_KEY.
    with configured_store() as store:
        try:
            server = MetricsServer((host, port), Exporter(store))
        except OSError as error:
            raise ConfigurationError(
                f"The port {port} of {host} cannot be used: {error.strerror}.", "Choose another: --port."
            ) from None
        with server, suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, _interrupt)
            typer.echo(f"Metrics: http://{host}:{server.server_port}/metrics")
            server.serve_forever()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

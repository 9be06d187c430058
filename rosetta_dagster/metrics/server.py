"""Answers `/metrics`, `/health`, `/health/pipelines` and `/ready` over HTTP, and nothing else."""

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from rosetta_dagster.cdc.config.pipeline import Health
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.metrics.exporter import Exporter

#: Seconds that a client may be silent, before or after its request.
CLIENT_TIMEOUT: Final = 10

_JSON: Final = "application/json"

_Answer = tuple[HTTPStatus, str, bytes]


class MetricsServer(ThreadingHTTPServer):
    """A server on one address. Threads of slow clients do not keep the process from ending."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], exporter: Exporter) -> None:
        super().__init__(address, _Handler)
        self.exporter = exporter
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(exporter)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not worth a stack trace."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version, sys_version = "rosetta", ""
    timeout = CLIENT_TIMEOUT

    def do_GET(self) -> None:
        answer = _PATHS.get(self.path.partition("?")[0])
        status, content_type, body = answer(self) if answer else _json(HTTPStatus.NOT_FOUND, {"paths": sorted(_PATHS)})
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the method that it replaces
        """Requests are not logged: they come every few seconds, and a client writes their text."""

    def metrics(self) -> _Answer:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        return HTTPStatus.OK, content_type, encode(self.server.registry)

    def alive(self) -> _Answer:
        """The process answers, whatever the state of databases and pipelines: a restart would fix neither."""
        return _json(HTTPStatus.OK, {"status": "UP"})

    def ready(self) -> _Answer:
        """The configuration database can be read."""
        try:
            count = len(self.server.exporter.measurements().pipelines)
        except RosettaError as error:
            return _unavailable(error)
        return _json(HTTPStatus.OK, {"status": "READY", "pipelines": count})

    def pipelines(self) -> _Answer:
        """No pipeline is in error."""
        try:
            health = self.server.exporter.health()
        except RosettaError as error:
            return _unavailable(error)
        is_failing = Health.ERROR in health.values()
        return _json(HTTPStatus.SERVICE_UNAVAILABLE if is_failing else HTTPStatus.OK, {"pipelines": health})


_PATHS: Final[dict[str, Callable[[_Handler], _Answer]]] = {
    "/metrics": _Handler.metrics,
    "/health": _Handler.alive,
    "/health/pipelines": _Handler.pipelines,
    "/ready": _Handler.ready,
}


def _json(status: HTTPStatus, value: dict[str, Any]) -> _Answer:
    return status, _JSON, orjson.dumps(value)


def _unavailable(error: RosettaError) -> _Answer:
    """Only the kind of error: its message names hosts and users."""
    return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "UNAVAILABLE", "error": type(error).__name__})

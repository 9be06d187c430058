"""A server that takes the alerts of a test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class Webhook:
    """What was posted so far, and how the next posts are answered."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200
        self.location: str | None = None
        self.url = ""
        #: While it is not set, posts wait for their answer.
        self.answers = Event()
        self.answers.set()

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.bodies]

    def take(self) -> list[str]:
        """The texts since the last call."""
        texts, self.bodies = self.texts, []
        return texts


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server on a free port; its thread ends with the block."""
    received = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.answers.wait(30)
            if received.status == 200:
                received.bodies.append(posted)
            self.send_response(received.status)
            if received.location is not None:
                self.send_header("Location", received.location)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Tests read what was received."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_port}/services/a-planted-token"
    try:
        yield received
    finally:
        received.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""A server that takes the alerts of a test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Webhook:
    """What was posted so far, and with which status the next posts are answered."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        self.url = ""


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server on a free port; its thread ends with the block."""
    received = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if received.status == 200:
                received.texts.append(posted["text"])
            self.send_response(received.status)
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
        server.shutdown()
        thread.join()
        server.server_close()

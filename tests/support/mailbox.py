"""A mail server that takes the alerts of a test."""

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from threading import Thread


class Mailbox:
    """What was mailed so far, and how the next log-in or mail is answered."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = 0
        self.answer = b"250 OK"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A server on a free port, without encryption; its thread ends with the block."""
    received = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            for line in self.rfile:
                command = line.strip().upper()[:4]
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    received.mails.append(message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n"))))
                # A server quotes what it was sent, which is why its words are left out of errors.
                quoted = received.answer + b" " + line.strip() if command == b"MAIL" else b"250 OK"
                self.wfile.write(quoted + b"\r\n")
                if command == b"QUIT":
                    # Not what a server should answer: the mail has been accepted all the same.
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        received.port = server.server_address[1]
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()

"""A server that asks for a password as it likes, and keeps what it is sent."""

import socket
import struct
import threading
from contextlib import suppress

#: AuthenticationCleartextPassword, AuthenticationMD5Password, AuthenticationOk.
CLEAR, MD5, TRUST = struct.pack("!I", 3), struct.pack("!I", 5) + b"salt", struct.pack("!I", 0)


class RogueServer:
    """Asks for authentication as it likes, and keeps what it is sent."""

    def __init__(self, request: bytes) -> None:
        self.heard = b""
        self._request = request
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    said = client.recv(65536)
                    if said[4:8] == struct.pack("!I", 80877103):
                        client.sendall(b"N")
                        client.recv(65536)
                    client.sendall(b"R" + struct.pack("!I", len(self._request) + 4) + self._request)
                    while more := client.recv(65536):
                        self.heard += more

"""TLS before a server that has none: a TCP proxy that takes PostgreSQL's request for TLS and a certificate of its own."""

import datetime as dt
import select
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from tests.support.database import Database

#: What a client sends when it wants TLS: a length, and the code in the place of the protocol's version.
SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)


def self_signed(directory: Path, host: str) -> Path:
    """A certificate for this host and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{host}.pem"
    kind = serialization.PrivateFormat.PKCS8
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


class TlsProxy:
    """Forwards connections, of TLS or not, to a port of the loopback. Owns one thread for each, until `close`."""

    def __init__(self, target_port: int, certificate: Path, *, client_authority: Path | None = None) -> None:
        """With an authority, clients have to present a certificate of it."""
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        if client_authority is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_authority)
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        #: How many connections there were of each kind.
        self.encrypted = self.plain = 0
        self._threads = [threading.Thread(target=self._accept, name="tls", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def before(self, database: Database) -> Database:
        """The same database, reached through the proxy."""
        return replace(database, url=make_conninfo(database.url, port=self.port))

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), name="tls", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(5)
        # A client that does not like the certificate hangs up.
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target_port)) as server:
            if client.recv(len(SSL_REQUEST), socket.MSG_PEEK) == SSL_REQUEST:
                client.recv(len(SSL_REQUEST))
                client.sendall(b"S")
                with self._context.wrap_socket(client, server_side=True) as secure:
                    self.encrypted += 1
                    self._forward(secure, server)
            else:
                self.plain += 1
                self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while not self._closing.is_set():
            # What TLS has read ahead, `select` does not see.
            is_pending = isinstance(client, ssl.SSLSocket) and client.pending()
            readable = [client] if is_pending else select.select([client, server], [], [], 0.1)[0]
            for each in readable:
                data = each.recv(65536)
                if not data:
                    return
                (server if each is client else client).sendall(data)

"""Decides how Debezium's JDBC driver verifies a server, and by which key it presents itself, as libpq would."""

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from rosetta_dagster.cdc.config.certificates import file_in_memory, root_file
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError

_PEM: Final = b"-----BEGIN "


def tls_properties(connection: PostgresConnection) -> dict[str, str]:
    """Return the driver's properties. What the row leaves open, libpq's variables say, as they do for the other sessions."""
    root = connection.sslrootcert or os.environ.get("PGSSLROOTCERT")
    certificate = connection.sslcert or os.environ.get("PGSSLCERT")
    key = connection.sslkey or os.environ.get("PGSSLKEY")
    binding = connection.channel_binding or os.environ.get("PGCHANNELBINDING")
    given = {
        "driver.sslrootcert": root_file(root) if root else None,
        "driver.sslcert": certificate,
        "driver.sslkey": _pkcs8_file(key) if key else None,
        "driver.channelBinding": binding,
    }
    return {"database.sslmode": _mode(connection.sslmode, root), **{name: text for name, text in given.items() if text}}


def _mode(mode: str, root: str | None) -> str:
    """Return the mode; the driver would verify nothing where libpq verifies the authority."""
    return "verify-ca" if mode == "require" and root else mode


def _pkcs8_file(path: str) -> str:
    """Return a file with the key in PKCS #8, DER: the driver reads no other form of every kind of key."""
    try:
        content = Path(path).read_bytes()
        if _PEM not in content:
            return path
        key = load_pem_private_key(content, password=None)
        return file_in_memory(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    except (OSError, ValueError, TypeError):
        raise ConfigurationError(
            "The private key that sslkey names cannot be read.",
            "Name a file with an unencrypted key in PEM form that the worker's user may read.",
        ) from None

"""Decides which files the drivers of both engines read certificates and keys from.

libpq and Debezium's driver take files only. What a row holds as text becomes a file in memory: nothing is left on the
worker's disk, not even by a process that is killed.
"""

import os
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509

from rosetta_dagster.cdc.config.wording import worded

#: What `sslrootcert` says for the authorities that the machine trusts.
SYSTEM: Final = "system"

#: Where the systems that Rosetta runs on keep these authorities, in one file.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_BEGIN: Final = "-----BEGIN "


def refuse_wrong_text(root_certificate: str) -> None:
    """Raise what is wrong with the text of certificates, if it is one. It is shown to everybody, so it may hold no key."""
    if _BEGIN not in root_certificate:
        return
    if "PRIVATE KEY-----" in root_certificate:
        raise worded("sslrootcert holds a private key, which everybody would see: give the certificates only")
    try:
        x509.load_pem_x509_certificates(root_certificate.encode())
    except ValueError:
        raise worded("sslrootcert holds no certificate in PEM form") from None


def root_file(root_certificate: str) -> str:
    """Return the file of trusted authorities: a path as it is, those of the system, or the text as a file."""
    if root_certificate == SYSTEM:
        return os.environ.get("SSL_CERT_FILE") or next((path for path in _BUNDLES if Path(path).is_file()), _BUNDLES[0])
    return file_in_memory(root_certificate.encode()) if _BEGIN in root_certificate else root_certificate


@cache
def file_in_memory(content: bytes) -> str:
    """Return the path of a file with this content, for drivers in this process, in memory and not on a disk."""
    descriptor = os.memfd_create("rosetta")
    # The drivers refuse a key that others may read.
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{descriptor}"

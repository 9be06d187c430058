"""Reads the private key of a Snowflake user, and decides what is wrong with one that cannot be used."""

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from pydantic import SecretStr

from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeConnection
from rosetta_dagster.cdc.errors import ConfigurationError

#: Snowflake refuses shorter keys.
KEY_BITS = 2048

CONVERT = "openssl pkcs8 -topk8 -v2 des3 -in KEY -out rsa_key.p8"

_GENERATE = "Make a key with: rosetta keys generate."
_TRADITIONAL = frozenset({"RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"})


class KeyRefused(ConfigurationError):
    """A private key that cannot be used. The code is stable, for scripts."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.code = code


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, and its parts that may be shown."""

    private: RSAPrivateKey

    def __repr__(self) -> str:
        return f"KeyPair({self.fingerprint})"

    @property
    def bits(self) -> int:
        return self.private.key_size

    @property
    def public_der(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint that DESC USER shows as RSA_PUBLIC_KEY_FP."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.public_der).digest()).decode()

    @property
    def public_text(self) -> str:
        """Return the public key as ALTER USER expects it: base64 without the first and last line of a PEM file."""
        return base64.b64encode(self.public_der).decode()

    def pem(self, passphrase: SecretStr) -> bytes:
        """Return the key as PKCS#8, encrypted with the passphrase."""
        encryption = serialization.BestAvailableEncryption(passphrase.get_secret_value().encode())
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def generate_key() -> KeyPair:
    return KeyPair(generate_private_key(public_exponent=65537, key_size=KEY_BITS))


def alter_user(user: str, key: KeyPair, *, second: bool = False) -> str:
    """Return the statement that registers the key; with `second`, beside the first, to rotate keys without a pause."""
    name = '"' + user.upper().replace('"', '""') + '"'
    return f"ALTER USER {name} SET RSA_PUBLIC_KEY{'_2' if second else ''}='{key.public_text}';"


def key_of(connection: SnowflakeConnection) -> KeyPair:
    """Return the key that the destination's row names. Raise `KeyRefused` when it cannot be used."""
    pem, passphrase = _pem_of(connection), _passphrase_of(connection)
    return load_key(pem, passphrase, allows_unencrypted=connection.allow_unencrypted_key)


def load_key(pem: bytes, passphrase: SecretStr | None, *, allows_unencrypted: bool = False) -> KeyPair:
    """Read a PKCS#8 key, encrypted unless another is allowed. Raise `KeyRefused`, which names the problem, otherwise."""
    encrypted = _verify_label(pem)
    if not encrypted and allows_unencrypted:
        return KeyPair(_verified(_decrypted(pem, None)))
    if not encrypted:
        raise KeyRefused("unencrypted", "The private key is not encrypted.", f"Encrypt it: {CONVERT}")
    if passphrase is None or not passphrase.get_secret_value():
        raise KeyRefused(
            "passphrase_missing", "The private key is encrypted and there is no passphrase.", "Set private_key_passphrase."
        )
    return KeyPair(_verified(_decrypted(pem, passphrase)))


def _verify_label(pem: bytes) -> bool:
    """Return whether the key is encrypted, judged by the first line of the file."""
    found = re.search(rb"-----BEGIN ([A-Z0-9 ]+)-----", pem)
    label = found[1].decode() if found else ""
    if not found:
        raise KeyRefused("not_pem", "The private key is not in PEM form: it has no line -----BEGIN …-----.", _GENERATE)
    if label == "PUBLIC KEY":
        raise KeyRefused("public_key", "This is the public key.", "Give the private key, as rsa_key.p8.")
    if label in _TRADITIONAL:
        raise KeyRefused(
            "not_pkcs8", f"The private key is in the traditional form ({label}), not PKCS#8.", f"Convert it: {CONVERT}"
        )
    if label not in ("ENCRYPTED PRIVATE KEY", "PRIVATE KEY"):
        raise KeyRefused("not_private_key", f"The PEM file holds a {label}, not a private key.", _GENERATE)
    return label.startswith("ENCRYPTED")


def _decrypted(pem: bytes, passphrase: SecretStr | None) -> object:
    try:
        password = None if passphrase is None else passphrase.get_secret_value().encode()
        return serialization.load_pem_private_key(pem, password)
    except UnsupportedAlgorithm:
        raise KeyRefused(
            "unsupported", "The private key is encrypted in a way that is not supported.", f"Convert it: {CONVERT}"
        ) from None
    except (ValueError, TypeError):
        # The two cannot be distinguished: about once in 300 times a wrong passphrase passes the padding of the cipher, and
        # what it decrypts then looks like a damaged file.
        raise KeyRefused(
            "unreadable",
            "The private key cannot be decrypted: the passphrase is wrong, or the file is damaged.",
            "Correct private_key_passphrase, or copy the file again.",
        ) from None


def _verified(key: object) -> RSAPrivateKey:
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
        raise KeyRefused("not_rsa", f"The private key is of the kind {kind}; Snowflake is used with RSA keys.", _GENERATE)
    if key.key_size < KEY_BITS:
        raise KeyRefused(
            "too_short", f"The private key has {key.key_size} bits; Snowflake needs at least {KEY_BITS}.", _GENERATE
        )
    return key


def _pem_of(connection: SnowflakeConnection) -> bytes:
    if connection.private_key is not None:
        return connection.private_key.get_secret_value().encode()
    if connection.private_key_path is not None:
        return read_key(connection.private_key_path)
    assert connection.private_key_env is not None, "the row has exactly one key"
    return _variable(connection.private_key_env).encode()


def _passphrase_of(connection: SnowflakeConnection) -> SecretStr | None:
    if connection.private_key_passphrase_env is not None:
        return SecretStr(_variable(connection.private_key_passphrase_env))
    return connection.private_key_passphrase


def read_key(path: str) -> bytes:
    """Return the file's bytes. Raise `KeyRefused` when it cannot be read."""
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise KeyRefused(
            "file_unreadable",
            f"The private key cannot be read from {path}: {error.strerror or type(error).__name__}.",
            "Correct the path, or let the user of this process read the file.",
        ) from None


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise KeyRefused(
            "variable_missing", f"The environment variable {name} is not set.", "Set it for every process of Rosetta."
        )
    return value

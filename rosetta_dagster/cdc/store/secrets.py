"""Encrypts the secrets of the configuration database: AES-256-GCM under a key derived from SECRET_KEY.

The text form is `enc:v1:` and, in URL-safe base64, a nonce of 12 bytes followed by the ciphertext with its tag. The place of
a secret (table, row, field) is authenticated with it, so an encrypted value copied to another row cannot be read there.
"""

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError, SecretUnreadable

PREFIX: Final = "enc:v1:"

#: Shorter keys can be guessed.
KEY_LENGTH = 16

_NONCE_LENGTH = 12


class SecretBox:
    """Encrypts and decrypts under one SECRET_KEY."""

    def __init__(self, secret_key: SecretStr | None) -> None:
        if secret_key is None:
            raise ConfigurationError(
                "SECRET_KEY is not set, so the secrets of the configuration database can be neither read nor encrypted.",
                f"Set it to a random text of {KEY_LENGTH} characters or more, for every process of Rosetta.",
            )
        if len(secret_key.get_secret_value()) < KEY_LENGTH:
            raise ConfigurationError(
                f"SECRET_KEY is shorter than {KEY_LENGTH} characters.", "Set it to a longer random text."
            )
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rosetta configuration secrets v1")
        self._cipher = AESGCM(derivation.derive(secret_key.get_secret_value().encode()))

    def __repr__(self) -> str:
        return "SecretBox()"

    def encrypt(self, secret: str, place: str) -> str:
        """Return the encrypted form of a secret for this place, as `sources/1/pg_password`."""
        nonce = os.urandom(_NONCE_LENGTH)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), place.encode())
        return PREFIX + base64.urlsafe_b64encode(sealed).decode()

    def decrypt(self, text: str, place: str) -> str:
        """Return the secret. `SecretUnreadable` when it was encrypted under another key or for another place."""
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(PREFIX))
            return self._cipher.decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], place.encode()).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                f"The secret {place} cannot be decrypted.",
                "Start Rosetta with the SECRET_KEY that it was encrypted under, or write the secret again in clear text.",
            ) from None


def is_encrypted(text: str) -> bool:
    return text.startswith(PREFIX)

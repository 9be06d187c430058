"""Encrypts the secrets of the configuration database: AES-256-GCM, under keys that are derived from SECRET_KEY.

The text form is `enc:v2:`, the key's id, what the secret is bound to, and a nonce of 12 bytes followed by the ciphertext
with its tag; the last two in URL-safe base64. Authenticated with the secret are its place (table, row, field) and its
binding, the settings that say to whom it is given. So it cannot be read in another row, nor after its host was changed.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rosetta_dagster.cdc.config.surfaces import Binding
from rosetta_dagster.cdc.errors import SecretUnreadable

#: What earlier versions wrote: bound to its place only. It is read once, by `keys.open_box`.
LEGACY: Final = "enc:v1:"
PREFIX: Final = "enc:v2:"

NONCE_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret is kept, and to whom it is given."""

    #: As `sources/1/pg_password`.
    name: str
    binding: Binding


class SecretBox:
    """Encrypts under one key, and decrypts under each that is known."""

    def __init__(self, key_id: str, keys: Mapping[str, bytes]) -> None:
        self.key_id = key_id
        self._ciphers = {each: AESGCM(key) for each, key in keys.items()}

    def __repr__(self) -> str:
        return f"SecretBox({self.key_id})"

    def encrypt(self, secret: str, place: Place) -> str:
        """Return the encrypted form of a secret for this place."""
        nonce = os.urandom(NONCE_LENGTH)
        authenticated = _authenticated(self.key_id, place.name, place.binding)
        sealed = nonce + self._ciphers[self.key_id].encrypt(nonce, secret.encode(), authenticated)
        return f"{PREFIX}{self.key_id}:{_encoded(json.dumps(place.binding).encode())}:{_encoded(sealed)}"

    def decrypt(self, text: str, place: Place) -> str:
        """Return the secret. `SecretUnreadable` when it is of another key or place, or was given for another server."""
        try:
            key_id, given_for, sealed = _parts(text)
            authenticated = _authenticated(key_id, place.name, given_for)
            clear = self._ciphers[key_id].decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], authenticated).decode()
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise SecretUnreadable(
                f"The secret {place.name} cannot be decrypted.",
                "Start Rosetta with the SECRET_KEY that it was encrypted under, or write the secret again in clear text.",
            ) from None
        if given_for != place.binding:
            raise moved(place.name, given_for, place.binding)
        return clear

    def is_current(self, text: str) -> bool:
        """Return whether a text is encrypted under the key of this box."""
        return text.startswith(f"{PREFIX}{self.key_id}:")


def is_encrypted(text: str) -> bool:
    return text.startswith((LEGACY, PREFIX))


def moved(what: str, given_for: Binding, now: Binding) -> SecretUnreadable:
    """Return the error for a secret whose row now names another server or user."""
    return SecretUnreadable(
        f"The secret {what} is not sent to {_described(now)}.",
        f"Enter the password again: it was given for {_described(given_for)}.",
    )


def _described(binding: Binding) -> str:
    # The text of certificates would hide the rest.
    return ", ".join(f"{name} {value}" if "\n" not in value else f"another {name}" for name, value in binding)


def _authenticated(key_id: str, name: str, binding: Binding) -> bytes:
    return json.dumps([key_id, name, binding]).encode()


def _parts(text: str) -> tuple[str, Binding, bytes]:
    key_id, given_for, sealed = text.removeprefix(PREFIX).split(":")
    pairs = json.loads(base64.urlsafe_b64decode(given_for))
    return key_id, tuple((str(name), str(value)) for name, value in pairs), base64.urlsafe_b64decode(sealed)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()

"""Decides which keys secrets are encrypted under: derived from SECRET_KEY, and refused when it is weak or another one.

`secret_keys` holds a salt and a check value for each key. The check value is encrypted under the key, so a SECRET_KEY that
is not the one of before is found out before anything is written. `SECRET_KEY_OLD` is the one that is being replaced.

Secrets of earlier versions were bound to their row but not to its server. They are encrypted again in the transaction that
writes the first key, with their rows locked, so bound to the server that the row names then. Afterwards no such text is
read: one that appears in a row later was copied there.
"""

import base64
import os
import secrets
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError, SecretUnreadable
from rosetta_dagster.cdc.store.sealed_rows import SealedRow, locked_rows
from rosetta_dagster.cdc.store.secrets import LEGACY, NONCE_LENGTH, SecretBox

#: Shorter keys can be guessed.
KEY_LENGTH: Final = 16
_FEWEST_CHARACTERS: Final = 6

_CHECKED: Final = b"rosetta"

#: The name of the lock under which a key is added.
_LOCK: Final = 5_190_377_412_886_031_772

_READ = "SELECT id, salt, check_value FROM secret_keys ORDER BY created_at, id"
_ADD = "INSERT INTO secret_keys (id, salt, check_value) VALUES (%s, %s, %s)"


def open_box(connection: "psycopg.Connection[Any]", secret_key: SecretStr | None, old: SecretStr | None) -> SecretBox:
    """Return the box of this SECRET_KEY. `ConfigurationError` when it is weak, `SecretUnreadable` when it is another one."""
    text = _strong(secret_key)
    texts = [text, *([old.get_secret_value()] if old is not None else [])]
    keys = _known(connection, texts)
    if text in keys:
        return SecretBox(keys[text][0], dict(keys.values()))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        keys = _known(connection, texts)
        if text not in keys:
            keys[text] = _add(connection, text, texts, is_proved=bool(keys))
    return SecretBox(keys[text][0], dict(keys.values()))


def _strong(secret_key: SecretStr | None) -> str:
    if secret_key is None:
        raise ConfigurationError(
            "SECRET_KEY is not set, so the secrets of the configuration database can be neither read nor encrypted.",
            f"Set it to a random text of {KEY_LENGTH} characters or more, for every process of Rosetta.",
        )
    text = secret_key.get_secret_value()
    if len(text) < KEY_LENGTH:
        raise ConfigurationError(f"SECRET_KEY is shorter than {KEY_LENGTH} characters.", _MAKE)
    if is_weak(text):
        raise ConfigurationError(
            "SECRET_KEY is weak: it repeats itself or is a row of characters.",
            f"{_MAKE} Set SECRET_KEY_OLD to this one where secrets are encrypted under it.",
        )
    return text


_MAKE: Final = "Set it to a random text, as: python -c 'import secrets; print(secrets.token_urlsafe())'"


def is_weak(text: str) -> bool:
    """Return whether a key is of few characters, a repetition, or a row such as `abcdefgh`.

    >>> [is_weak(text) for text in ("a" * 16, "change-me" * 2, "0123456789abcdef", "Zx0-w8_QpL3vT6ny")]
    [True, True, True, False]
    """
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    is_row = steps.count(1) + steps.count(-1) > len(steps) * 0.8
    return len(set(text)) < _FEWEST_CHARACTERS or text in (text + text)[1:-1] or is_row


def _known(connection: "psycopg.Connection[Any]", texts: list[str]) -> dict[str, tuple[str, bytes]]:
    """Return id and key of those texts that a row of `secret_keys` was made with."""
    found: dict[str, tuple[str, bytes]] = {}
    for key_id, salt, check in connection.execute(_READ).fetchall():
        for text in texts:
            if text not in found and _is_checked(key := _derived(text, bytes(salt)), key_id, bytes(check)):
                found[text] = key_id, key
    return found


def _add(connection: "psycopg.Connection[Any]", text: str, texts: list[str], *, is_proved: bool) -> tuple[str, bytes]:
    """Add a key: the first one, or the successor of one that was proved to be known."""
    is_first = connection.execute("SELECT FROM secret_keys LIMIT 1").fetchone() is None
    if not is_first and not is_proved:
        raise SecretUnreadable(
            "SECRET_KEY is not the one that the secrets of this configuration database are encrypted under.",
            "Start Rosetta with that one. To replace it, set it as SECRET_KEY_OLD beside the new SECRET_KEY and run: "
            "rosetta secrets rotate",
        )
    key_id, salt = secrets.token_hex(4), os.urandom(16)
    key, nonce = _derived(text, salt), os.urandom(NONCE_LENGTH)
    connection.execute(_ADD, [key_id, salt, nonce + AESGCM(key).encrypt(nonce, _CHECKED, key_id.encode())])
    if is_first:
        _convert(connection, SecretBox(key_id, {key_id: key}), texts)
    return key_id, key


def _convert(connection: "psycopg.Connection[Any]", box: SecretBox, texts: list[str]) -> None:
    """Encrypt the secrets of earlier versions again. `SecretUnreadable` when this key reads none of them."""
    read, unread = 0, []
    for row in locked_rows(connection):
        sealed = {}
        for field, text in _legacy_fields(row):
            place = row.places[field]
            if (clear := _legacy_clear(texts, text, place.name)) is None:
                unread.append(place.name)
            else:
                sealed[field] = box.encrypt(clear, place)
        read += len(sealed)
        row.write(connection, sealed)
    if unread and not read:
        raise SecretUnreadable(
            f"The secret {unread[0]} cannot be decrypted, nor any other: SECRET_KEY is not the one of before.",
            "Start Rosetta with the SECRET_KEY that they were encrypted under.",
        )


def _legacy_fields(row: SealedRow) -> Iterator[tuple[str, str]]:
    return ((field, text) for field, text in row.texts.items() if text.startswith(LEGACY))


def _legacy_clear(texts: list[str], text: str, name: str) -> str | None:
    for secret_key in texts:
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rosetta configuration secrets v1")
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(LEGACY))
            cipher = AESGCM(derivation.derive(secret_key.encode()))
            return cipher.decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], name.encode()).decode()
        except (InvalidTag, ValueError):
            continue
    return None


def _is_checked(key: bytes, key_id: str, check: bytes) -> bool:
    try:
        return AESGCM(key).decrypt(check[:NONCE_LENGTH], check[NONCE_LENGTH:], key_id.encode()) == _CHECKED
    except InvalidTag:
        return False


@lru_cache(maxsize=32)
def _derived(text: str, salt: bytes) -> bytes:
    """Return the key. It takes 32 MiB and about a tenth of a second on purpose: guessing is as slow."""
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(text.encode())

"""Decides who may log in: verifies a key-pair JWT against the registered public keys, as Snowflake does."""

import base64
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from rosetta_dagster.embedded.snowflake.key_pair import fingerprint, load_public_key

#: The largest difference of the clocks of client and server, and the longest lifetime of a token, in seconds.
CLOCK_SKEW = 60
LONGEST_LIFE = 3600


class LoginRefused(Exception):
    """The token is not valid. The text is the code that SYSTEM$GET_LOGIN_FAILURE_DETAILS returns."""


class KeyPairAuthentication:
    """The users of an account, their keys, and the reasons of refused logins."""

    def __init__(self, account: str, *, now: Callable[[], float] = time.time) -> None:
        self._account = account.upper().replace(".", "-")
        self._keys: dict[str, dict[str, rsa.RSAPublicKey]] = {}
        self._now = now
        #: The code of each refusal, by the identifier that the client gets.
        self.failures: dict[str, str] = {}

    def register(self, user: str, keys: Sequence[str]) -> None:
        """Replace a user's keys, given as PEM text."""
        loaded = [load_public_key(key) for key in keys]
        self._keys[user.upper()] = {fingerprint(key): key for key in loaded}

    def fingerprints(self, user: str) -> list[str] | None:
        """Return the fingerprints of a user's keys; None for an unknown user."""
        keys = self._keys.get(user.upper())
        return None if keys is None else list(keys)

    def verify(self, login_name: str, token: str) -> str:
        """Return the user that the token authenticates.

        Raises:
            LoginRefused: with Snowflake's code.

        """
        signed, signature, head, claims = _parts(token)
        if head.get("alg") != "RS256":
            raise LoginRefused("JWT_TOKEN_INVALID_ALGORITHM")
        user, key = self._signer(login_name, claims)
        _check_signature(key, signature, signed)
        self._check_times(claims.get("iat"), claims.get("exp"))
        return user

    def refuse(self, reason: LoginRefused) -> str:
        """Record the reason, and return the identifier that the client gets in its place."""
        identifier = str(uuid.uuid4())
        self.failures[identifier] = str(reason)
        return identifier

    def _signer(self, login_name: str, claims: dict[str, Any]) -> tuple[str, rsa.RSAPublicKey]:
        account, _, rest = str(claims.get("iss", "")).partition(".")
        user, _, key_fingerprint = rest.rpartition(".")
        if account != self._account:
            raise LoginRefused("JWT_TOKEN_ACCOUNT_MISMATCH")
        if user not in self._keys or user != login_name.upper() or claims.get("sub") != f"{account}.{user}":
            raise LoginRefused("JWT_TOKEN_INVALID_USER_IN_ISSUER")
        if not self._keys[user]:
            raise LoginRefused("JWT_TOKEN_MISSING_PUBLIC_KEY")
        key = self._keys[user].get(key_fingerprint)
        if key is None:
            raise LoginRefused("JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH")
        return user, key

    def _check_times(self, issued: object, expires: object) -> None:
        now = self._now()
        if not isinstance(issued, int | float) or issued > now + CLOCK_SKEW:
            raise LoginRefused("JWT_TOKEN_INVALID_ISSUE_TIME")
        # Also when the token's own expiry is later.
        if not isinstance(expires, int | float) or min(expires, issued + LONGEST_LIFE) < now - CLOCK_SKEW:
            raise LoginRefused("JWT_TOKEN_INVALID_EXPIRATION_TIME")


def _parts(token: str) -> tuple[bytes, bytes, dict[str, Any], dict[str, Any]]:
    """Return the signed bytes, the signature, the header and the claims."""
    try:
        head, claims, signature = token.split(".")
        decoded = json.loads(_decode(head)), json.loads(_decode(claims))
        signature_bytes = _decode(signature)
    except ValueError as error:
        raise LoginRefused("JWT_TOKEN_INVALID") from error
    if not all(isinstance(part, dict) for part in decoded):
        raise LoginRefused("JWT_TOKEN_INVALID")
    return f"{head}.{claims}".encode(), signature_bytes, *decoded


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _check_signature(key: rsa.RSAPublicKey, signature: bytes, signed: bytes) -> None:
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise LoginRefused("JWT_TOKEN_INVALID_SIGNATURE") from error

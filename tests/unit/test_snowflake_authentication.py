"""The emulator lets in exactly whom Snowflake would, and says why it refuses the others."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from rosetta_dagster.embedded.snowflake.emulator.authentication import KeyPairAuthentication, LoginRefused
from rosetta_dagster.embedded.snowflake.key_pair import KeyPair, fingerprint, load_public_key
from tests.support.snowflake_account import private_key

NOW = 1_800_000_000
PAIR, OTHER = KeyPair.generate(), KeyPair.generate()


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def token(pair: KeyPair = PAIR, *, algorithm: str = "RS256", signer: KeyPair | None = None, **changed: Any) -> str:
    claims = {
        "iss": f"ORG-ACCOUNT.ROSETTA.{fingerprint(load_public_key(pair.public_key))}",
        "sub": "ORG-ACCOUNT.ROSETTA",
        "iat": NOW,
        "exp": NOW + 60,
        **changed,
    }
    signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, claims))
    signature = private_key(signer or pair).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{encode(signature)}"


@pytest.fixture
def authentication() -> KeyPairAuthentication:
    made = KeyPairAuthentication("org-account", now=lambda: NOW)
    made.register("rosetta", [PAIR.public_key])
    made.register("keyless", [])
    return made


def test_a_good_token_is_its_users(authentication: KeyPairAuthentication) -> None:
    assert "ROSETTA" == authentication.verify("rosetta", token())
    assert "ROSETTA" == authentication.verify("ROSETTA", token(iat=NOW + 30, exp=NOW + 90))


def test_the_second_key_is_as_good_as_the_first_and_the_first_may_go(authentication: KeyPairAuthentication) -> None:
    authentication.register("ROSETTA", [PAIR.public_key, OTHER.public_key])
    for pair in (PAIR, OTHER):
        assert "ROSETTA" == authentication.verify("rosetta", token(pair))
    authentication.register("ROSETTA", [OTHER.public_key])
    with pytest.raises(LoginRefused, match="FINGERPRINT_MISMATCH"):
        authentication.verify("rosetta", token())


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("garbage", "JWT_TOKEN_INVALID"),
        ("a.b.c", "JWT_TOKEN_INVALID"),
        (f"{encode(b'1')}.{encode(b'2')}.{encode(b'3')}", "JWT_TOKEN_INVALID"),
        (token(algorithm="none"), "JWT_TOKEN_INVALID_ALGORITHM"),
        (token(algorithm="HS256"), "JWT_TOKEN_INVALID_ALGORITHM"),
        (token(iss="OTHER.ROSETTA.SHA256:x"), "JWT_TOKEN_ACCOUNT_MISMATCH"),
        (token(sub="ORG-ACCOUNT.SOMEBODY"), "JWT_TOKEN_INVALID_USER_IN_ISSUER"),
        (token(OTHER), "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH"),
        (token(signer=OTHER), "JWT_TOKEN_INVALID_SIGNATURE"),
        (token(iat=NOW + 120), "JWT_TOKEN_INVALID_ISSUE_TIME"),
        (token(iat="now"), "JWT_TOKEN_INVALID_ISSUE_TIME"),
        (token(iat=NOW - 600, exp=NOW - 120), "JWT_TOKEN_INVALID_EXPIRATION_TIME"),
        (token(iat=NOW - 7200, exp=NOW + 7200), "JWT_TOKEN_INVALID_EXPIRATION_TIME"),
        (token(exp=None), "JWT_TOKEN_INVALID_EXPIRATION_TIME"),
    ],
)
def test_a_bad_token_is_refused_with_its_reason(authentication: KeyPairAuthentication, refused: str, code: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        authentication.verify("rosetta", refused)
    assert code == str(caught.value)


def test_a_token_is_no_good_for_somebody_else_or_for_nobody(authentication: KeyPairAuthentication) -> None:
    authentication.register("somebody", [OTHER.public_key])
    for login_name in ("somebody", "nobody", ""):
        with pytest.raises(LoginRefused, match="JWT_TOKEN_INVALID_USER_IN_ISSUER"):
            authentication.verify(login_name, token())


def test_a_user_without_a_key_cannot_log_in(authentication: KeyPairAuthentication) -> None:
    keyless = token(iss="ORG-ACCOUNT.KEYLESS.SHA256:x", sub="ORG-ACCOUNT.KEYLESS")
    with pytest.raises(LoginRefused, match="JWT_TOKEN_MISSING_PUBLIC_KEY"):
        authentication.verify("keyless", keyless)


def test_a_tampered_claim_breaks_the_signature(authentication: KeyPairAuthentication) -> None:
    head, _, signature = token(iat=NOW - 600, exp=NOW - 500).split(".")
    _, claims, _ = token().split(".")
    with pytest.raises(LoginRefused, match="JWT_TOKEN_INVALID_SIGNATURE"):
        authentication.verify("rosetta", f"{head}.{claims}.{signature}")


def test_neither_key_nor_passphrase_is_shown() -> None:
    shown = repr(PAIR)
    assert PAIR.passphrase not in shown
    assert "PRIVATE" not in shown
    assert "ENCRYPTED" in PAIR.private_key

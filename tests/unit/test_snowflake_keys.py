import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from pydantic import SecretStr

from rosetta_dagster.cdc.config.pipeline import checked
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeConnection
from rosetta_dagster.cdc.destination.snowflake.keys import KeyRefused, alter_user, key_of, load_key, read_key
from rosetta_dagster.cdc.errors import ConfigurationError
from tests.support.private_key import PASSPHRASE, PASSPHRASE_WITH_VALID_PADDING, PEM, WRONG_PASSPHRASE

KEY = load_key(PEM, PASSPHRASE)

Serialized = serialization.PrivateFormat


def pem_of(key: PrivateKeyTypes, form: Serialized = Serialized.PKCS8, *, encrypted: bool = True) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if encrypted:
        encryption = serialization.BestAvailableEncryption(PASSPHRASE.get_secret_value().encode())
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def damaged() -> bytes:
    lines = PEM.splitlines()
    return b"\n".join([lines[0], *lines[3:]])


@pytest.mark.parametrize(
    ("code", "pem", "passphrase"),
    [
        ("not_pem", b"garbage", PASSPHRASE),
        ("not_pem", b"", PASSPHRASE),
        (
            "public_key",
            KEY.private.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            PASSPHRASE,
        ),
        ("not_pkcs8", pem_of(KEY.private, Serialized.TraditionalOpenSSL), PASSPHRASE),
        ("not_pkcs8", pem_of(KEY.private, Serialized.TraditionalOpenSSL, encrypted=False), None),
        ("not_private_key", b"-----BEGIN CERTIFICATE-----\n", PASSPHRASE),
        ("unencrypted", pem_of(KEY.private, encrypted=False), None),
        ("unencrypted", pem_of(KEY.private, encrypted=False), PASSPHRASE),
        ("passphrase_missing", PEM, None),
        ("passphrase_missing", PEM, SecretStr("")),
        ("unreadable", PEM, WRONG_PASSPHRASE),
        ("unreadable", PEM, PASSPHRASE_WITH_VALID_PADDING),
        ("unreadable", damaged(), PASSPHRASE),
        ("not_rsa", pem_of(ec.generate_private_key(ec.SECP256R1())), PASSPHRASE),
        ("too_short", pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024)), PASSPHRASE),
    ],
)
def test_each_key_that_will_not_do_has_a_message_of_its_own(code: str, pem: bytes, passphrase: SecretStr | None) -> None:
    with pytest.raises(KeyRefused) as caught:
        load_key(pem, passphrase)
    assert code == caught.value.code
    assert caught.value.remedy
    text = f"{caught.value} {caught.value.__cause__}"
    assert PASSPHRASE.get_secret_value() not in text
    assert "another passphrase" not in text
    assert not any(part and part in text for part in pem.decode().splitlines()[1:-1])


@pytest.mark.parametrize("cipher", ["des3", "aes256"])
def test_a_key_as_openssl_makes_it_is_read_and_has_its_fingerprint(tmp_path: Path, cipher: str) -> None:
    file = tmp_path / "rsa_key.p8"
    make = (
        f"openssl genrsa 2048 | openssl pkcs8 -topk8 -inform PEM -v2 {cipher} -out {file} -passout pass:word && "
        f"openssl rsa -in {file} -passin pass:word -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64"
    )
    answer = subprocess.run(["bash", "-c", make], check=True, capture_output=True, text=True)
    key = load_key(read_key(str(file)), SecretStr("word"))
    assert f"SHA256:{answer.stdout.strip()}" == key.fingerprint
    assert 2048 == key.bits


@pytest.mark.parametrize("passphrase", [WRONG_PASSPHRASE, PASSPHRASE_WITH_VALID_PADDING], ids=["as a rule", "by chance"])
def test_a_wrong_passphrase_and_a_damaged_file_have_one_message(passphrase: SecretStr) -> None:
    messages = set()
    for pem, given in ((PEM, passphrase), (damaged(), PASSPHRASE)):
        with pytest.raises(KeyRefused) as caught:
            load_key(pem, given)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "the passphrase is wrong, or the file is damaged" in messages.pop()


def test_the_padding_of_the_fixed_passphrases_is_as_their_names_say() -> None:
    causes = []
    for passphrase in (WRONG_PASSPHRASE, PASSPHRASE_WITH_VALID_PADDING):
        with pytest.raises(ValueError, match=r".") as caught:
            serialization.load_pem_private_key(PEM, passphrase.get_secret_value().encode())
        causes.append("Incorrect password" in str(caught.value))
    assert [True, False] == causes


def test_a_key_shows_its_fingerprint_and_nothing_else() -> None:
    assert f"KeyPair({KEY.fingerprint})" == repr(KEY)


def test_the_statement_that_registers_a_key_holds_no_lines_of_pem() -> None:
    statement = alter_user('ro"setta', KEY)
    assert statement.startswith('ALTER USER "RO""SETTA" SET RSA_PUBLIC_KEY=\'MII')
    assert "\n" not in statement
    assert "RSA_PUBLIC_KEY_2=" in alter_user("rosetta", KEY, second=True)


ROW = {"account": "myorg-dw", "user": "rosetta", "database": "ANALYTICS"}


def connection(**fields: Any) -> SnowflakeConnection:
    return checked(SnowflakeConnection, {**ROW, **fields}, "The row")


def test_a_key_comes_from_the_row_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.p8").write_bytes(PEM)
    monkeypatch.setenv("ROSETTA_SECRET_KEY_OF_DW", PEM.decode())
    monkeypatch.setenv("ROSETTA_SECRET_PASSPHRASE", PASSPHRASE.get_secret_value())
    word = {"private_key_passphrase": PASSPHRASE.get_secret_value()}
    rows = [
        connection(private_key=PEM.decode(), **word),
        connection(private_key_path=str(tmp_path / "key.p8"), **word),
        connection(private_key_env="ROSETTA_SECRET_KEY_OF_DW", private_key_passphrase_env="ROSETTA_SECRET_PASSPHRASE"),
    ]
    assert [KEY.fingerprint] * 3 == [key_of(row).fingerprint for row in rows]


def test_a_file_or_a_variable_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROSETTA_SECRET_KEY_OF_DW", raising=False)
    with pytest.raises(KeyRefused, match=r"nowhere\.p8: No such file"):
        key_of(connection(private_key_path=str(tmp_path / "nowhere.p8"), private_key_passphrase="x"))
    with pytest.raises(KeyRefused, match="ROSETTA_SECRET_KEY_OF_DW is not set"):
        key_of(connection(private_key_env="ROSETTA_SECRET_KEY_OF_DW", private_key_passphrase="x"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "exactly one of private_key"),
        ({"private_key": "a secret", "private_key_path": "b"}, "exactly one of private_key"),
        ({"private_key": "a secret", "account": "https://x.snowflakecomputing.com"}, "account"),
        (
            {
                "private_key": "a secret",
                "private_key_passphrase": "a secret",
                "private_key_passphrase_env": "ROSETTA_SECRET_B",
            },
            "not both",
        ),
        ({"private_key": "a secret", "colour": "a secret"}, "colour"),
    ],
)
def test_a_row_that_is_not_complete_is_refused_without_its_secrets(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        connection(**fields)
    assert "a secret" not in str(caught.value)


def test_a_row_shows_no_secret() -> None:
    row = connection(private_key=PEM.decode(), private_key_passphrase=PASSPHRASE.get_secret_value())
    assert PASSPHRASE.get_secret_value() not in repr(row)
    assert PEM.decode()[100:130] not in repr(row)
    assert "rosetta@myorg-dw/ANALYTICS" == row.describe()


def test_a_key_that_is_not_encrypted_is_accepted_when_the_row_allows_it() -> None:
    pem = KEY.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    assert KEY.fingerprint == key_of(connection(private_key=pem, allow_unencrypted_key=True)).fingerprint
    with pytest.raises(KeyRefused, match="not encrypted"):
        key_of(connection(private_key=pem))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"login": "token"}, "login: token needs token or token_env"),
        ({"login": "token", "token": "t", "token_env": "ROSETTA_SECRET_T"}, "give token or token_env, not both"),
        (
            {"login": "oauth", "oauth_client_id": "c"},
            "oauth_token_url, oauth_client_secret or oauth_client_secret_env",
        ),
        ({"login": "workload_identity"}, "needs workload_identity_provider"),
        ({"login": "workload_identity", "workload_identity_provider": "OIDC"}, "needs token or token_env"),
        ({"login": "token", "token_env": "HOME"}, "ROSETTA_SECRET_"),
        (
            {
                "login": "oauth",
                "oauth_client_id": "c",
                "oauth_client_secret": "s",
                "oauth_token_url": "http://idp.example/t",
            },
            "oauth_token_url has to begin with https",
        ),
    ],
)
def test_a_method_says_what_it_needs(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        connection(**settings)

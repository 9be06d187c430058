"""Certificates and keys of a row: which are refused, and in which files the drivers find the others."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from rosetta_dagster.cdc.config.certificates import root_file
from rosetta_dagster.cdc.config.pipeline import PostgresConnection, checked
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.debezium.driver_tls import tls_properties
from tests.support.tls import self_signed

PLACE: dict[str, Any] = {"host": "db.example.com", "database": "shop", "username": "rosetta"}


def place(**settings: Any) -> PostgresConnection:
    return checked(PostgresConnection, {**PLACE, **settings}, "Source shop")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sslrootcert": "system", "sslmode": "require"}, "'system' needs sslmode 'verify-full'"),
        ({"sslrootcert": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "no certificate in PEM form"),
        ({"sslcert": "/a.pem"}, "sslcert and sslkey are given together"),
        ({"sslkey": "/a.pem"}, "sslcert and sslkey are given together"),
        ({"channel_binding": "required"}, "channel_binding"),
    ],
)
def test_what_verifies_nothing_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        place(**settings)


def test_a_private_key_in_a_row_is_refused_without_showing_it(tmp_path: Path) -> None:
    text = self_signed(tmp_path, "db.example.com").read_text()
    with pytest.raises(ConfigurationError, match="holds a private key") as caught:
        place(sslrootcert=text)
    assert text.splitlines()[1] not in str(caught.value)


def test_certificates_of_a_row_are_in_no_file_of_the_disk(tmp_path: Path) -> None:
    text = self_signed(tmp_path, "db.example.com").read_text()
    text = text[text.index("-----BEGIN CERTIFICATE-----") :]
    path = root_file(text)
    assert text == Path(path).read_text()
    assert path == root_file(text), "one file for each text"
    assert path in place(sslrootcert=text, sslmode="verify-full").conninfo()
    assert str(Path(path).readlink()).startswith("/memfd:")


def test_debezium_gets_the_key_in_the_form_that_its_driver_reads(tmp_path: Path) -> None:
    file = self_signed(tmp_path, "rosetta")
    properties = tls_properties(place(sslmode="verify-full", sslcert=str(file), sslkey=str(file), sslrootcert="/roots.pem"))
    read = load_der_private_key(Path(properties["driver.sslkey"]).read_bytes(), None)
    assert load_pem_private_key(file.read_bytes(), None).private_numbers() == read.private_numbers()  # type: ignore[union-attr]
    assert ("/roots.pem", str(file)) == (properties["driver.sslrootcert"], properties["driver.sslcert"])
    with pytest.raises(ConfigurationError, match="sslkey names cannot be read"):
        tls_properties(place(sslcert=str(file), sslkey="/nowhere"))


def test_debezium_follows_the_variables_that_libpq_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "/roots.pem")
    monkeypatch.setenv("PGCHANNELBINDING", "require")
    expected = {"database.sslmode": "verify-ca", "driver.sslrootcert": "/roots.pem", "driver.channelBinding": "require"}
    assert expected == tls_properties(place(sslmode="require")), (
        "libpq verifies the authority then, and the driver would not"
    )

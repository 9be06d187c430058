"""The URL of the configuration database: whatever the password's characters, no part of it is in an error."""

import traceback
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.cdc.store.connection import conninfo
from rosetta_dagster.cdc.store.database import Store

SECRETS = ["hunter{}secret", "{}hunter", "hunter{}", "5432{}hunter", "hun{0}ter{0}secret"]


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("char", list("@/:?#%[]&=' \\\"\n,;+"))
def test_no_part_of_a_password_is_in_an_error(char: str, shape: str) -> None:
    password = shape.format(char)
    url = f"postgresql://user:{password}@nowhere.invalid/config"
    # A port that nobody listens on: what can be read is refused at once.
    for each in (url, url.replace("nowhere.invalid", "127.0.0.1:1")):
        with Store(SecretStr(each)) as store, pytest.raises(RosettaError) as caught:
            store.states()
        shown = f"{caught.value!s} {caught.value!r} {''.join(traceback.format_exception(caught.value))}"
        assert "hunter" not in shown
        assert "secret" not in shown


@pytest.mark.parametrize("password", ["p@ss/w:rd?#%", "plain", "ü 🔑"])
def test_a_password_with_its_characters_as_codes_is_read(password: str) -> None:
    given = conninfo_to_dict(
        conninfo(SecretStr(f"postgresql://user:{quote(password, safe='')}@host:5432/config?sslmode=require"))
    )
    assert (password, "host", "config", "require") == (given["password"], given["host"], given["dbname"], given["sslmode"])


def test_the_remedy_says_how_the_character_is_written() -> None:
    with pytest.raises(ConfigurationError, match="@ as %40"):
        conninfo(SecretStr("postgresql://user:p@ss@host/config"))


@pytest.mark.parametrize(
    ("url", "required"),
    [
        ("postgresql://user:secret@host/config", "scram-sha-256"),
        ("postgresql://user@host/config", "scram-sha-256,gss,sspi,none"),
        ("postgresql://user:secret@host/config?require_auth=md5", "md5"),
    ],
)
def test_a_password_is_sent_by_scram_only_unless_the_url_says_otherwise(url: str, required: str) -> None:
    assert required == conninfo_to_dict(conninfo(SecretStr(url)))["require_auth"]

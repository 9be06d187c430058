"""A stored secret goes to the server and the user that it was given for, and to nobody else."""

import base64
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import SecretUnreadable
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredSource, put_destination, put_source
from rosetta_dagster.cdc.store.plan import Declarations, declare
from rosetta_dagster.cdc.store.secrets import LEGACY
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource, SnowflakeDestination
from rosetta_dagster.settings import Settings
from tests.support.database import SECRET_KEY, Database

PASSWORD = "open sesame"
PLACE: dict[str, Any] = {"host": "db.example.com", "port": 5432, "database": "d", "username": "u"}
ACCOUNT = {"account": "myorg-dw", "user": "rosetta", "database": "D", "private_key": PASSWORD}


@pytest.fixture
def rows(store: Store, config_database: Database) -> Database:
    put_source(store, DeclaredSource(name="db", connection=PostgresConnection(**PLACE, password=SecretStr(PASSWORD))))
    put_destination(store, DeclaredDestination(name="dw", type="POSTGRES", config={**PLACE, "password": PASSWORD}))
    put_destination(store, DeclaredDestination(name="sf", type="SNOWFLAKE", config=ACCOUNT))
    return config_database


@pytest.mark.parametrize(
    "change", ["pg_host = 'evil.example.com'", "pg_port = 6543", "pg_username = 'root'"], ids=["host", "port", "user"]
)
def test_a_source_that_leads_elsewhere_asks_for_its_password_again(store: Store, rows: Database, change: str) -> None:
    rows.run(f"UPDATE sources SET {change}")
    with pytest.raises(SecretUnreadable) as caught:
        store.source("db")
    assert "Enter the password again: it was given for host db.example.com, port 5432, username u." == caught.value.remedy
    assert PASSWORD not in str(caught.value)
    rows.run("UPDATE sources SET pg_password = 'another'")
    assert SecretStr("another") == store.source("db").connection.password
    assert [(0,)] == rows.rows("SELECT count(*) FROM sources WHERE pg_password LIKE '%another%'")


@pytest.mark.parametrize(
    ("name", "change", "given_for"),
    [
        ("dw", {"host": "evil.example.com"}, "host db.example.com"),
        ("dw", {"port": 6543}, "host db.example.com"),
        ("dw", {"username": "root"}, "host db.example.com"),
        ("sf", {"account": "evil-dw"}, "account myorg-dw"),
        ("sf", {"user": "root"}, "account myorg-dw"),
        ("sf", {"host": "x.snowflakecomputing.com"}, "account myorg-dw"),
    ],
)
def test_a_destination_that_leads_elsewhere_asks_for_its_secret_again(
    store: Store, rows: Database, name: str, change: dict[str, Any], given_for: str
) -> None:
    with rows.connect() as connection:
        connection.execute("UPDATE destinations SET config = config || %s WHERE name = %s", [Jsonb(change), name])
    with pytest.raises(SecretUnreadable, match=f"Enter the password again: it was given for {given_for}"):
        store.destination(name)


def test_what_does_not_say_where_a_secret_goes_may_change(store: Store, rows: Database) -> None:
    rows.run("UPDATE sources SET pg_database = 'e', pg_sslmode = 'require'")
    rows.run("""UPDATE destinations SET config = config || '{"schema": "s"}'""")
    rows.run("UPDATE destinations SET config = config - 'port' WHERE name = 'dw'")
    assert SecretStr(PASSWORD) == store.source("db").connection.password
    assert [PASSWORD] * 2 == [store.destination("dw").config["password"], store.destination("sf").config["private_key"]]


def test_a_binding_that_was_rewritten_is_not_believed(store: Store, rows: Database) -> None:
    ((text,),) = rows.rows("SELECT pg_password FROM sources")
    evil = base64.urlsafe_b64encode(b'[["host", "evil.example.com"], ["port", "5432"], ["username", "u"]]').decode()
    parts = text.split(":")
    with rows.connect() as connection:
        forged = [":".join([*parts[:3], evil, parts[4]])]
        connection.execute("UPDATE sources SET pg_host = 'evil.example.com', pg_password = %s", forged)
    with pytest.raises(SecretUnreadable, match="cannot be decrypted"):
        store.source("db")


def test_code_that_leads_elsewhere_gets_no_stored_secret(rows: Database, settings: Settings) -> None:
    elsewhere = {**PLACE, "host": "evil.example.com"}
    account = {name: value for name, value in ACCOUNT.items() if name != "private_key"}
    for use in (
        PostgresSource(name="db", **elsewhere).connection,
        PostgresDestination(name="dw", **elsewhere).config,
        SnowflakeDestination(name="sf", **{**account, "account": "evil-dw"}).config,
    ):
        with pytest.raises(SecretUnreadable, match="it was given for"):
            use()
    assert SecretStr(PASSWORD) == PostgresSource(name="db", **PLACE).connection().password
    assert PASSWORD == SnowflakeDestination(name="sf", **account).config()["private_key"]


def test_code_that_names_the_secret_again_may_lead_elsewhere(store: Store, rows: Database) -> None:
    rows.run("UPDATE sources SET pg_host = 'evil.example.com'")
    rows.run("""UPDATE destinations SET config = config || '{"host": "evil.example.com"}' WHERE name = 'dw'""")
    source = DeclaredSource(name="db", connection=PostgresConnection(**PLACE, password=SecretStr("x")))
    destination = DeclaredDestination(name="dw", type="POSTGRES", config={**PLACE, "password": "x"})
    declare(store, Declarations(sources=(source,), destinations=(destination,)))
    assert ("db.example.com", "x") == (store.source("db").connection.host, store.destination("dw").config["password"])


def of_before(secret: str, place: str, key: str = SECRET_KEY) -> str:
    """The text that earlier versions wrote."""
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rosetta configuration secrets v1")
    nonce = os.urandom(12)
    sealed = nonce + AESGCM(derivation.derive(key.encode())).encrypt(nonce, secret.encode(), place.encode())
    return LEGACY + base64.urlsafe_b64encode(sealed).decode()


@pytest.fixture
def old_rows(config_database: Database) -> Callable[[str], None]:
    """Writes a source and a destination as an earlier version encrypted them."""
    with Store(SecretStr(config_database.url)) as opened:
        opened.migrate()

    def write(key: str) -> None:
        with config_database.connect() as connection:
            connection.execute(
                "INSERT INTO sources (id, name, pg_host, pg_database, pg_username, pg_password)"
                " VALUES (7, 'db', 'db.example.com', 'd', 'u', %s)",
                [of_before(PASSWORD, "sources/7/pg_password", key)],
            )
            config = {**PLACE, "password": of_before(PASSWORD, "destinations/7/password", key)}
            connection.execute("INSERT INTO destinations VALUES (7, 'dw', 'POSTGRES', %s)", [Jsonb(config)])

    return write


def texts(database: Database) -> list[str]:
    query = "SELECT pg_password FROM sources UNION ALL SELECT config ->> 'password' FROM destinations"
    return [text for (text,) in database.rows(query)]


@pytest.fixture
def opened(config_database: Database) -> Iterator[Callable[..., Store]]:
    stores: list[Store] = []

    def make(*keys: str) -> Store:
        stores.append(Store(SecretStr(config_database.url), *map(SecretStr, keys)))
        return stores[-1]

    yield make
    for each in stores:
        each.close()


def test_what_an_earlier_version_encrypted_is_bound_once_and_read(
    config_database: Database, old_rows: Callable[[str], None], opened: Callable[..., Store]
) -> None:
    old_rows(SECRET_KEY)
    before = texts(config_database)
    # One row is read, all are encrypted again.
    assert SecretStr(PASSWORD) == opened(SECRET_KEY).source("db").connection.password
    assert all(text.startswith("enc:v2:") for text in texts(config_database))
    assert PASSWORD == opened(SECRET_KEY).destination("dw").config["password"]
    with config_database.connect() as connection:
        connection.execute("UPDATE sources SET pg_host = 'evil.example.com', pg_password = %s", [before[0]])
    with pytest.raises(SecretUnreadable, match="sources/7/pg_password cannot be decrypted"):
        opened(SECRET_KEY).source("db")


def test_another_key_than_that_of_an_earlier_version_is_refused_and_writes_nothing(
    config_database: Database, old_rows: Callable[[str], None], opened: Callable[..., Store]
) -> None:
    old_rows("the key that was used before")
    before = texts(config_database)
    with pytest.raises(SecretUnreadable, match="SECRET_KEY is not the one"):
        opened(SECRET_KEY).source("db")
    assert before == texts(config_database)
    assert [(0,)] == config_database.rows("SELECT count(*) FROM secret_keys")

"""Who a server is, and who Rosetta is: verified by certificates of the row, by both engines, against everyone in between."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError, SecretUnreadable
from rosetta_dagster.cdc.source.debezium.engine import EngineThread
from rosetta_dagster.cdc.source.debezium.properties import connector_properties
from rosetta_dagster.cdc.source.preflight import preflight
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredSource, put_source
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.items_and_notes import CREATE, TABLES, changes
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal
from tests.support.tls import TlsProxy, self_signed
from tests.support.waiting import eventually

HOST = "localhost"


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    """The server's certificate with its key; nobody else signed it."""
    return self_signed(tmp_path, HOST)


@pytest.fixture
def certificate(server_file: Path) -> Path:
    return alone(server_file)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A certificate of the same name that signed nothing here."""
    (tmp_path / "other").mkdir()
    return alone(self_signed(tmp_path / "other", HOST))


@pytest.fixture
def tls(postgres_server: EmbeddedPostgres, server_file: Path) -> Iterator[TlsProxy]:
    with TlsProxy(postgres_server.port, server_file) as made:
        yield made


def alone(file: Path) -> Path:
    """The certificate of a file without its key."""
    text = file.read_text()
    certificate = file.with_suffix(".crt")
    certificate.write_text(text[text.index("-----BEGIN CERTIFICATE-----") :])
    return certificate


def behind(tls: TlsProxy, database: Database) -> Database:
    return replace(database, url=make_conninfo(database.url, host=HOST, port=tls.port))


def with_settings(config: PipelineConfig, **settings: Any) -> PipelineConfig:
    """The pipeline with these settings on both sides."""
    connection = type(config.source.connection).model_validate(
        {**config.source.connection.model_dump(), "password": config.source.connection.password, **settings}
    )
    destinations = tuple(each.model_copy(update={"config": {**each.config, **settings}}) for each in config.destinations)
    return config.model_copy(
        update={"source": config.source.model_copy(update={"connection": connection}), "destinations": destinations}
    )


def test_a_stream_verifies_the_server_by_the_certificate_in_its_row(
    engine: Engine, source: Database, destination: Database, tls: TlsProxy, certificate: Path
) -> None:
    source.run(*CREATE, *changes(1))
    config = with_settings(
        pipeline(engine, behind(tls, source), [behind(tls, destination)], *TABLES),
        sslmode="verify-full", sslrootcert=certificate.read_text(),
    )  # fmt: skip
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*changes(2))
        wait_until_equal(worker, source, destination, *TABLES)
    assert 0 == tls.plain


def test_a_stream_presents_its_own_certificate(
    engine: Engine, source: Database, destination: Database, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    server_file = self_signed(tmp_path, HOST)
    certificate = alone(server_file)
    client = self_signed(tmp_path, "rosetta")
    client.chmod(0o600)
    own = {"sslcert": str(alone(client)), "sslkey": str(client)}
    source.run(*CREATE, *changes(1))
    with TlsProxy(postgres_server.port, server_file, client_authority=alone(client)) as tls:
        config = with_settings(
            pipeline(engine, behind(tls, source), [behind(tls, destination)], *TABLES),
            sslmode="verify-full", sslrootcert=str(certificate),
        )  # fmt: skip
        with pytest.raises(RosettaError, match="certificate required"):
            preflight(config)
        with running(with_settings(config, **own)) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            wait_until_equal(worker, source, destination, *TABLES)
        assert 0 == tls.plain


def debezium_fails(config: PipelineConfig) -> str:
    """Why Debezium itself does not connect, without what Rosetta examines before."""
    properties = connector_properties(
        config.source.connection, slot_name="s", publication_name="p", tables=(), placeholder="x"
    )
    engine = EngineThread(properties, "x")
    try:
        with pytest.raises(RosettaError) as caught:
            eventually(lambda: engine.receive(0.2))
    finally:
        assert engine.close(30)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["verify-full", "require"])
def test_debezium_trusts_nobody_else_either(source: Database, tls: TlsProxy, stranger: Path, mode: str) -> None:
    """As with libpq, `require` verifies when authorities are given."""
    config = with_settings(
        pipeline(Engine.DEBEZIUM, behind(tls, source), [source], "items"), sslmode=mode, sslrootcert=str(stranger)
    )
    with pytest.raises(RosettaError, match="certificate verify failed"):
        preflight(config)
    assert "SSL error" in debezium_fails(config)
    assert 0 == tls.plain
    assert 0 == tls.encrypted, "no session was opened"


def test_a_server_in_between_that_is_trusted_is_refused_by_channel_binding(
    source: Database, tls: TlsProxy, certificate: Path
) -> None:
    """The proxy holds a certificate that is trusted, and passes the log-in on: only channel binding notices."""
    source.run(*CREATE)
    given = {"sslmode": "verify-full", "sslrootcert": str(certificate)}
    config = pipeline(Engine.DEBEZIUM, behind(tls, source), [source], "items")
    assert () == preflight(with_settings(config, **given))
    bound = with_settings(config, **given, channel_binding="require")
    with pytest.raises(ConfigurationError, match="channel binding") as caught:
        preflight(bound)
    assert caught.value.remedy
    assert "hannel binding" in debezium_fails(bound)


def test_the_authorities_of_the_system_are_those_of_both_engines(
    source: Database, tls: TlsProxy, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run(*CREATE)
    config = with_settings(
        pipeline(Engine.DEBEZIUM, behind(tls, source), [source], "items"), sslmode="verify-full", sslrootcert="system"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert () == preflight(config)
    properties = connector_properties(
        config.source.connection, slot_name="s", publication_name="p", tables=(), placeholder="x"
    )
    assert str(certificate) == properties["driver.sslrootcert"]


def test_the_configuration_database_is_verified_by_its_url(
    config_database: Database, store: Store, tls: TlsProxy, certificate: Path, stranger: Path
) -> None:
    place = config_database.connection
    assert place.password is not None
    url = f"postgresql://{place.username}:{place.password.get_secret_value()}@{HOST}:{tls.port}/{place.database}"
    with Store(SecretStr(f"{url}?sslmode=verify-full&sslrootcert={certificate}")) as verified:
        assert [] == verified.states()
    with (
        Store(SecretStr(f"{url}?sslmode=verify-full&sslrootcert={stranger}")) as deceived,
        pytest.raises(ConfigurationError, match="certificate verify failed"),
    ):
        deceived.states()
    assert 0 == tls.plain


def test_who_changes_the_authority_does_not_get_the_password(
    store: Store, config_database: Database, certificate: Path
) -> None:
    """An authority of the attacker's own would verify the attacker's server at the same address."""
    password = SecretStr("a planted secret")
    place = PostgresConnection(host="db", database="d", username="u", password=password, sslrootcert="/etc/authorities.pem")
    put_source(store, DeclaredSource(name="shop", connection=place))
    assert password == store.source("shop").connection.password
    with config_database.connect() as connection:
        connection.execute("UPDATE sources SET pg_sslrootcert = %s", [certificate.read_text()])
    with pytest.raises(SecretUnreadable, match="another sslrootcert") as caught:
        store.source("shop")
    assert "BEGIN CERTIFICATE" not in str(caught.value)
    assert "planted" not in str(caught.value)

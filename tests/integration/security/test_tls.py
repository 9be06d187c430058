"""TLS modes, over a server that offers TLS and one that does not: kept to, or refused in one clear message."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.source.preflight import preflight
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.items_and_notes import CREATE, TABLES, changes
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal
from tests.support.tls import TlsProxy, self_signed


@pytest.fixture
def tls(postgres_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[TlsProxy]:
    with TlsProxy(postgres_server.port, self_signed(tmp_path, "another.example")) as made:
        yield made


def with_mode(config: PipelineConfig, mode: str) -> PipelineConfig:
    """The pipeline with this TLS mode on both sides."""
    connection = config.source.connection.model_copy(update={"sslmode": mode})
    destinations = tuple(
        each.model_copy(update={"config": {**each.config, "sslmode": mode}}) for each in config.destinations
    )
    return config.model_copy(
        update={"source": config.source.model_copy(update={"connection": connection}), "destinations": destinations}
    )


def test_with_require_nothing_is_said_in_clear(
    source: Database, destination: Database, tls: TlsProxy, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    source.run(*CREATE, *changes(1))
    config = with_mode(pipeline(engine, tls.before(source), [tls.before(destination)], *TABLES), "require")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*changes(2))
        wait_until_equal(worker, source, destination, *TABLES)
    assert 0 == tls.plain
    assert 0 < tls.encrypted


@pytest.mark.parametrize(
    ("mode", "is_encrypted"), [("disable", False), ("allow", False), ("prefer", True), ("require", True)]
)
def test_a_mode_that_trusts_any_certificate_gets_what_it_asks_for(
    source: Database, tls: TlsProxy, mode: str, is_encrypted: bool
) -> None:
    source.run(*CREATE)
    assert () == preflight(with_mode(pipeline(Engine.DEBEZIUM, tls.before(source), [source], "items"), mode))
    assert is_encrypted == (tls.encrypted > 0)
    assert is_encrypted != (tls.plain > 0)


@pytest.mark.parametrize(
    "case",
    [
        # The mode, whose certificate is trusted, and what is told.
        ("verify-ca", None, "certificate verify failed"),
        ("verify-full", None, "certificate verify failed"),
        ("verify-full", "another.example", "does not match host name"),
        ("verify-ca", "another.example", None),
    ],
)
def test_a_mode_that_verifies_refuses_a_certificate_of_somebody_else(
    source: Database,
    tls: TlsProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str | None, str | None],
) -> None:
    mode, host, told = case
    source.run(*CREATE)
    (tmp_path / "roots").mkdir()
    trusted = self_signed(tmp_path / "roots", "a.root") if host is None else tmp_path / f"{host}.pem"
    monkeypatch.setenv("PGSSLROOTCERT", str(trusted))
    config = with_mode(pipeline(Engine.DEBEZIUM, tls.before(source), [source], "items"), mode)
    if told is None:
        assert () == preflight(config)
        return
    with pytest.raises(RosettaError) as caught:
        preflight(config)
    text = str(caught.value)
    assert text.startswith(f"Source {config.source.connection.describe()} ")
    assert told in text
    assert not caught.value.transient
    assert caught.value.remedy
    assert "\n" not in text
    assert source.config["password"] not in text


# Which engine reads does not matter: preflight connects first.
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_refused_where_tls_is_required(source: Database, tmp_path: Path, mode: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGSSLROOTCERT", str(self_signed(tmp_path, "a.root")))
        config = with_mode(pipeline(Engine.DEBEZIUM, source, [source], "items"), mode)
        with pytest.raises(RosettaError, match="server does not support SSL") as caught:
            preflight(config)
    assert caught.value.remedy
    assert not caught.value.transient

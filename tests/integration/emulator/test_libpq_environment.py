"""An embedded server starts whatever libpq's variables of the shell say, and a connection that fails says why."""

import psycopg
import pytest

from rosetta_dagster.embedded import postgres
from rosetta_dagster.embedded.binaries import EmbeddedPostgresError
from rosetta_dagster.embedded.libpq_environment import libpq_variables
from rosetta_dagster.embedded.postgres import EmbeddedPostgres

HOSTILE = {
    "PGSSLMODE": "verify-full",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "of_the_office",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGPORT": "1",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "read-only",
}


def test_the_variables_of_the_shell_lead_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HOSTILE.keys() <= libpq_variables()
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        assert ('"$user", public',) == connection.execute("SHOW search_path").fetchone()


def test_a_connection_that_fails_says_why_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setattr(postgres, "drop_libpq_variables", lambda: None)
    server = EmbeddedPostgres()
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"a connection fails: .*server does not support SSL"):
            server.start()
    finally:
        server.stop()

"""Rows of pipelines in the configuration database of a test."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.store.database import Store
from tests.support.database import SECRET_KEY, Database
from tests.support.rows import Add


@pytest.fixture
def add(store: Store, config_database: Database) -> Add:
    """Adds a pipeline with a source of its own, and returns its id."""

    def add_pipeline(
        name: str,
        *,
        source: Database | None = None,
        slot: str | None = None,
        source_slot: str | None = None,
        of_source: str | None = None,
        host: str = "db",
    ) -> int:
        place = source.config if source else {"host": host, "port": 5432, "database": "d", "username": "u", "password": "p"}
        with config_database.connect() as connection:
            if of_source is None:
                connection.execute(
                    "INSERT INTO sources (name, pg_host, pg_port, pg_database, pg_username, pg_password, replication_name)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    [name, *(place[key] for key in ("host", "port", "database", "username", "password")), source_slot],
                )
            row = connection.execute(
                "INSERT INTO pipelines (name, source_id, replication_name) SELECT %s, id, %s FROM sources WHERE name = %s"
                " RETURNING id",
                [name, slot, of_source or name],
            ).fetchone()
            assert row is not None
            connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) VALUES (%s, 'orders')", [row[0]])
            return int(row[0])

    return add_pipeline


@pytest.fixture
def other_store(config_database: Database) -> Iterator[Store]:
    with Store(SecretStr(config_database.url), SecretStr(SECRET_KEY)) as opened:
        yield opened

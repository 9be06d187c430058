"""The configuration of one pipeline on a server that may go away."""

from collections.abc import Iterator
from itertools import count

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import SECRET_KEY, Database
from tests.support.supervised import put_rows

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def config_server() -> Iterator[EmbeddedPostgres]:
    """A server that may go away, since nothing but the configuration is on it. Who stops it starts it again."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def own_store(config_server: EmbeddedPostgres, source: Database, destination: Database) -> Iterator[Store]:
    """The configuration of one pipeline, to be started."""
    source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
    url = config_server.create_database(f"config_{next(_NUMBERS)}")
    with Store(SecretStr(url), SecretStr(SECRET_KEY)) as opened:
        opened.migrate()
        put_rows(opened, source, destination)
        yield opened


@pytest.fixture
def name(own_store: Store) -> str:
    return own_store.states()[0].name

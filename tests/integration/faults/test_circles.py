"""A table is never replicated into itself: not directly, and not by way of another database."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import ConfigurationError
from tests.support.database import Database
from tests.support.engines import debezium_in_the_long_run
from tests.support.pipelines import failure, is_streaming, pipeline, replicate, running, wait_until, wait_until_equal

ITEMS = ("CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (1, 'a')")


@debezium_in_the_long_run
def test_a_table_is_never_replicated_into_itself(engine: Engine, source: Database) -> None:
    source.run(*ITEMS)
    config = pipeline(engine, source, [source], "items")
    with pytest.raises(ConfigurationError, match=r"Source and destination are the same table.*public\.items") as caught:
        failure(config)
    assert "TRUNCATE" not in str(caught.value)
    assert [(1, "a")] == source.rows("SELECT * FROM items")


@pytest.fixture
def there(source: Database, destination: Database) -> PipelineConfig:
    """A pipeline that has run once."""
    source.run(*ITEMS, "CREATE TABLE notes (id int PRIMARY KEY)")
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items", "notes")
    replicate(config, source, destination)
    return config


def test_two_pipelines_do_not_replicate_a_table_to_each_other(
    there: PipelineConfig, source: Database, destination: Database
) -> None:
    back = pipeline(Engine.PGOUTPUT, destination, [source], "items")
    with pytest.raises(
        ConfigurationError, match=rf"{back.name} and {there.name} replicate table public\.items to each other"
    ):
        failure(back)
    # Started without the table, the first one leaves it to the other, which refuses the rows that are there.
    without = there.model_copy(update={"tables": there.tables[1:]})
    replicate(without, source, destination)
    source.run("TRUNCATE items")
    with running(back) as worker:
        wait_until_equal(worker, destination, source, "items")
        wait_until(worker, lambda: is_streaming(worker))
    with pytest.raises(ConfigurationError, match=rf"{there.name} and {back.name} replicate"):
        failure(there)


def test_a_table_that_another_database_feeds_is_passed_on(
    there: PipelineConfig, destination: Database, new_database: Callable[[str], Database]
) -> None:
    last = new_database("last")
    replicate(pipeline(Engine.PGOUTPUT, destination, [last], "items"), destination, last)
    assert [(1, "a")] == last.rows("SELECT * FROM items")


def test_a_source_whose_role_may_not_read_what_pipelines_keep_there_is_replicated(
    there: PipelineConfig, destination: Database, new_database: Callable[[str], Database]
) -> None:
    last, role = new_database("last"), f"reader_{destination.connection.database}"
    destination.run(
        "CREATE PUBLICATION mine FOR TABLE items",
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret-of-a-reader'",
        f"GRANT SELECT ON items TO {role}",
    )
    config = pipeline(Engine.PGOUTPUT, destination, [last], "items")
    reader = destination.connection.model_copy(update={"username": role, "password": SecretStr("secret-of-a-reader")})
    source = config.source.model_copy(update={"connection": reader})
    try:
        replicate(config.model_copy(update={"own_publication_name": "mine", "source": source}), destination, last)
    finally:
        destination.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

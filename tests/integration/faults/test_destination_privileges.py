"""A destination's user with few privileges: what exists already is used, and what is missing is named with its GRANT."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import (
    failure,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)
from tests.support.waiting import TIMEOUT


@pytest.fixture
def loader(destination: Database) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    role = f"loader_{destination.connection.database}"
    destination.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"REVOKE TEMPORARY ON DATABASE {destination.connection.database} FROM PUBLIC",
    )
    yield role
    with psycopg.connect(destination.url, autocommit=True) as connection:
        connection.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")


def as_loader(config: PipelineConfig, role: str) -> PipelineConfig:
    row = config.destinations[0]
    row = row.model_copy(update={"config": {**row.config, "username": role, "password": "secret"}})
    return config.model_copy(update={"destinations": (row,)})


def refusal(config: PipelineConfig) -> DestinationRejected | None:
    """Run the pipeline until it is refused or streams."""
    worker = Worker(config)
    worker.start()
    deadline = time.monotonic() + TIMEOUT
    try:
        while not is_streaming(worker):
            assert time.monotonic() < deadline
            worker.wait(0.05)
    except DestinationRejected as error:
        return error
    finally:
        worker.stop(TIMEOUT)
    return None


def test_each_missing_privilege_is_named_with_its_grant_and_these_are_enough(
    source: Database, destination: Database, loader: str
) -> None:
    source.run("CREATE SCHEMA sales; CREATE TABLE sales.t (id int PRIMARY KEY); INSERT INTO sales.t VALUES (1)")
    config = as_loader(pipeline(Engine.PGOUTPUT, source, [destination], "sales.t"), loader)
    problems: list[str] = []
    while (error := refusal(config)) is not None and len(problems) < 5:
        problems.append(error.message)
        assert error.remedy.startswith("Run there: ")
        destination.run(error.remedy.removeprefix("Run there: ").partition(" or: ")[0])
    assert 3 == len(problems)
    assert "may not create temporary tables" in problems[0]
    assert "Schema rosetta of the destination is missing" in problems[1]
    assert "Schema sales of the destination is missing" in problems[2]
    replicate(config, source, destination)


def test_schemas_that_exist_are_used_without_the_privilege_to_create_any(
    source: Database, destination: Database, loader: str
) -> None:
    source.run("CREATE SCHEMA sales; CREATE TABLE sales.t (id int PRIMARY KEY); INSERT INTO sales.t VALUES (1)")
    destination.run(
        f"GRANT TEMPORARY ON DATABASE {destination.connection.database} TO {loader}",
        "CREATE SCHEMA rosetta; CREATE SCHEMA sales",
        f"GRANT USAGE, CREATE ON SCHEMA rosetta TO {loader}",
    )
    config = as_loader(pipeline(Engine.PGOUTPUT, source, [destination], "sales.t"), loader)
    error = refusal(config)
    assert error is not None
    assert f'Run there: GRANT USAGE, CREATE ON SCHEMA "sales" TO "{loader}";' == error.remedy
    destination.run(f"GRANT USAGE, CREATE ON SCHEMA sales TO {loader}")
    replicate(config, source, destination)


def test_a_table_that_may_not_be_created_does_not_stop_the_others(
    source: Database, destination: Database, loader: str
) -> None:
    source.run("CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)")
    destination.run(
        f"GRANT TEMPORARY ON DATABASE {destination.connection.database} TO {loader}",
        f"CREATE SCHEMA rosetta AUTHORIZATION {loader}; CREATE SCHEMA closed; GRANT CREATE ON SCHEMA public TO {loader}",
    )
    with running(as_loader(pipeline(Engine.PGOUTPUT, source, [destination], "closed.t", "t"), loader)) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO t VALUES (1)")
        wait_until_equal(worker, source, destination, "t")
        state, reason = worker.report().states[TableId("closed", "t")]
    assert TableState.ERROR is state
    assert "schema closed" in str(reason)


def test_row_level_security_is_an_error_with_its_remedy(source: Database, destination: Database, loader: str) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    destination.run(
        f"GRANT TEMPORARY ON DATABASE {destination.connection.database} TO {loader}",
        f"CREATE SCHEMA rosetta AUTHORIZATION {loader}; GRANT CREATE ON SCHEMA public TO {loader}",
    )
    config = as_loader(pipeline(Engine.PGOUTPUT, source, [destination], "t"), loader)
    replicate(config, source, destination)
    destination.run(
        "ALTER TABLE t OWNER TO CURRENT_USER", f"GRANT ALL ON t TO {loader}", "ALTER TABLE t ENABLE ROW LEVEL SECURITY"
    )
    source.run("DELETE FROM t WHERE id = 1")
    with pytest.raises(DestinationRejected) as caught:
        failure(config)
    assert f'ALTER ROLE "{loader}" BYPASSRLS' in caught.value.remedy
    destination.run(f"ALTER ROLE {loader} BYPASSRLS")
    replicate(config, source, destination)


def test_triggers_that_may_not_be_kept_from_firing_are_reported(
    source: Database, destination: Database, loader: str
) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    destination.run(
        f"GRANT TEMPORARY ON DATABASE {destination.connection.database} TO {loader}",
        f"CREATE SCHEMA rosetta AUTHORIZATION {loader}; GRANT CREATE ON SCHEMA public TO {loader}",
    )
    config = as_loader(pipeline(Engine.PGOUTPUT, source, [destination], "t"), loader)
    replicate(config, source, destination)
    destination.run(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := 0; RETURN NEW; END'",
        "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()",
    )
    with connect(source.connection) as connection:
        schemas = list(read_schemas(connection, [TableId("public", "t")]).values())
    (drift,) = make_destination(config.destinations[0], config).drift(schemas)
    assert "Trigger stamp fires" in drift.problem
    assert 'ALTER TABLE "public"."t" DISABLE TRIGGER "stamp"' == drift.statement
    destination.run(f"GRANT SET ON PARAMETER session_replication_role TO {loader}")
    assert [] == list(make_destination(config.destinations[0], config).drift(schemas))
    source.run("UPDATE t SET v = 7")
    replicate(config, source, destination)

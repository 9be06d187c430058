"""A promoted standby is followed when it has everything that the destination holds, and refused when it lost some of it."""

import re
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import SlotInvalid
from rosetta_dagster.cdc.source.preflight import Check, preflight
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.pipelines import failure, is_streaming, pipeline, running, wait_until, wait_until_equal
from tests.support.proxy import Proxy
from tests.support.standby import Standby
from tests.support.waiting import eventually


@pytest.fixture
def primary() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def source(primary: EmbeddedPostgres) -> Database:
    database = Database(url=primary.create_database("shop"))
    database.run("CREATE TABLE items (id int PRIMARY KEY, v text)", "INSERT INTO items VALUES (1, 'copied')")
    return database


@pytest.fixture
def standby(primary: EmbeddedPostgres, source: Database) -> Iterator[Standby]:
    with Standby(primary) as server:
        yield server


def at(server: EmbeddedPostgres, config: PipelineConfig, *, host: str = "127.0.0.1") -> PipelineConfig:
    """The pipeline with its source at another server."""
    connection = config.source.connection.model_copy(update={"host": host, "port": server.port})
    return config.model_copy(update={"source": config.source.model_copy(update={"connection": connection})})


def wait_until_received(primary: EmbeddedPostgres, standby: Standby) -> None:
    with psycopg.connect(primary.url()) as connection:
        row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None

    def is_received() -> bool:
        with psycopg.connect(standby.url()) as connection:
            return connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() == (True,)

    eventually(is_received)


def replicate_some(
    config: PipelineConfig, source: Database, destination: Database, *rows: int, standby: Standby | None = None
) -> None:
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*(f"INSERT INTO items VALUES ({row}, 'streamed')" for row in rows))
        wait_until_equal(worker, source, destination, "items")
        if standby is not None:
            standby.receive_slots()


@pytest.fixture
def both_hosts(primary: EmbeddedPostgres, standby: Standby, source: Database) -> Iterator[str]:
    """Hosts that have a server at the standby's port: the standby, and the primary."""
    with Proxy(("127.0.0.2", standby.port)) as proxy:
        proxy.before(source)
        yield "127.0.0.1,127.0.0.2"


@pytest.mark.usefixtures("quick_beats")
@pytest.mark.parametrize("engine", list(Engine))
def test_of_several_hosts_the_primary_is_followed(
    primary: EmbeddedPostgres, standby: Standby, source: Database, destination: Database, *, both_hosts: str, engine: Engine
) -> None:
    config = at(standby, pipeline(engine, source, [destination], "items"), host=both_hosts)
    refused = [str(finding) for finding in preflight(at(standby, config)) if finding.check is Check.STANDBY]
    assert f"Point the source at the primary (127.0.0.1:{primary.port})." in refused[0]
    warnings = [str(finding) for finding in preflight(config) if finding.check is Check.STANDBY]
    assert len(warnings) == 1
    statement = re.search(r"Run (ALTER SYSTEM .*?;) (SELECT .*?;)", warnings[0])
    assert statement is not None
    source.run(*statement.groups())
    eventually(lambda: not [finding for finding in preflight(config) if finding.check is Check.STANDBY])
    replicate_some(config, source, destination, 2, 3, standby=standby)
    primary.kill()
    standby.promote()
    promoted = replace(source, url=standby.url("shop"))
    promoted.run("INSERT INTO items VALUES (4, 'after the promotion')")
    with running(config) as worker:
        wait_until_equal(worker, promoted, destination, "items")
        assert all(counts.copied == 0 for counts in worker.report().tables.values())


@pytest.mark.usefixtures("quick_beats")
def test_a_promoted_standby_that_lost_nothing_is_followed(
    engine: Engine, primary: EmbeddedPostgres, standby: Standby, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], "items")
    replicate_some(config, source, destination, 2, 3, standby=standby)
    wait_until_received(primary, standby)
    primary.kill()
    standby.promote()
    promoted = replace(source, url=standby.url("shop"))
    promoted.run("INSERT INTO items VALUES (4, 'after the promotion')", "UPDATE items SET v = 'changed' WHERE id = 1")
    for row in (5, 6):
        with running(at(standby, config)) as worker:
            wait_until_equal(worker, promoted, destination, "items")
            assert all(counts.copied == 0 for counts in worker.report().tables.values())
        promoted.run(f"INSERT INTO items VALUES ({row}, 'later')")


def test_a_promoted_standby_that_lost_changes_is_refused_before_anything_is_applied(
    primary: EmbeddedPostgres, standby: Standby, source: Database, destination: Database
) -> None:
    # Decided before an engine is opened.
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    replicate_some(config, source, destination, 2, standby=standby)
    wait_until_received(primary, standby)
    standby.stop(keep_data=True)
    replicate_some(config, source, destination, 3)
    primary.kill()
    standby.start()
    standby.promote()
    promoted = replace(source, url=standby.url("shop"))
    promoted.run("INSERT INTO items VALUES (4, 'after the promotion')")
    before = destination.rows("SELECT * FROM items ORDER BY id")
    with pytest.raises(SlotInvalid, match=r"promoted to timeline 2 without everything.*rosetta resync"):
        failure(at(standby, config))
    assert before == destination.rows("SELECT * FROM items ORDER BY id")

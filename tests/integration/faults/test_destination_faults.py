"""Destinations that refuse, stall, fill up or go away: nothing is lost or doubled, and nothing is confirmed too early."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, RosettaError
from rosetta_dagster.cdc.run import run
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database, current_lsn
from tests.support.engines import debezium_in_the_long_run, only_pgoutput
from tests.support.gate import is_held
from tests.support.items_and_notes import CREATE, TABLES, assert_continues, changes, streaming
from tests.support.pipelines import (
    confirmed_lsn,
    is_streaming,
    pipeline,
    replicate,
    running,
    started,
    wait_until,
    wait_until_equal,
)
from tests.support.waiting import eventually

_NUMBERS = count(1)


@pytest.fixture
def source(source: Database) -> Database:
    source.run(*CREATE)
    return source


@pytest.fixture(scope="module")
def destination_server() -> Iterator[EmbeddedPostgres]:
    """A server that may be filled and restarted, since no other test uses it."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def destination(destination_server: EmbeddedPostgres) -> Database:
    return Database(url=destination_server.create_database(f"full_{next(_NUMBERS)}"))


def error_of(worker: Worker) -> RosettaError:
    with pytest.raises(RosettaError) as caught:
        assert worker.wait(30), "the run did not end"
    return caught.value


def assert_ends_unconfirmed(
    worker: Worker, config: PipelineConfig, source: Database, kind: type[RosettaError], part: str
) -> None:
    """The run ends by such an error, and the slot stays before what was not applied."""
    written = current_lsn(source)
    error = error_of(worker)
    assert isinstance(error, kind)
    assert part in str(error)
    assert confirmed_lsn(source, config) < written


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, too small for what is to come."""
    # The server's user cannot reach below pytest's directory.
    place = Path(tempfile.mkdtemp(prefix="rosetta-small-disk-"))
    owner = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    options = f"size=24m,mode=700,uid={owner}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        place.rmdir()
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
    place.rmdir()


# What a full disk does to a batch knows no engine; that nothing is confirmed, the others say for both.
@only_pgoutput
def test_a_destination_whose_disk_is_full_ends_the_run_and_the_next_one_continues(
    engine: Engine, source: Database, small_disk: Path
) -> None:
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
            connection.execute("CREATE DATABASE small TABLESPACE small")
        destination = Database(url=server.url("small"))
        config = pipeline(engine, source, [destination], *TABLES)
        worker = streaming(config, source, destination)
        source.run("INSERT INTO items SELECT n, repeat('x', 1900) FROM generate_series(1000000, 1020000) AS n")
        assert_ends_unconfirmed(worker, config, source, DestinationUnavailable, "(53100)")
        subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
        assert_continues(config, source, destination)


@debezium_in_the_long_run
def test_a_table_that_may_not_be_written_is_reported_with_the_remedy(
    engine: Engine, source: Database, destination: Database
) -> None:
    role = f"writer_{destination.connection.database}"
    destination.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT CREATE ON DATABASE {destination.connection.database} TO {role}",
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    # One table: of several, the one that is refused would be set aside.
    config = pipeline(engine, source, [destination], "items")
    row = config.destinations[0]
    row = row.model_copy(update={"config": {**row.config, "username": role, "password": "secret"}})
    config = config.model_copy(update={"destinations": (row,)})
    replicate(config, source, destination)
    worker = started(config)
    wait_until(worker, lambda: is_streaming(worker))
    destination.run("ALTER TABLE items OWNER TO postgres", f"REVOKE ALL ON items FROM {role}")
    source.run(*changes(3))
    assert_ends_unconfirmed(worker, config, source, DestinationRejected, "Grant the privilege")
    destination.run(f"GRANT ALL ON items TO {role}")
    with running(config) as worker:
        wait_until_equal(worker, source, destination, "items")
        assert 0 == sum(counts.copied for counts in worker.report().tables.values())


@debezium_in_the_long_run
def test_a_destination_without_a_free_connection_ends_the_run_which_continues_later(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    assert worker.stop(20)
    role = f"limited_{destination.connection.database}"
    destination.run(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'")
    name = destination.connection.database
    source.run(*changes(3))
    destination.run(f"ALTER DATABASE {name} CONNECTION LIMIT 0", f"ALTER ROLE {role} NOSUPERUSER")
    row = config.destinations[0]
    row = row.model_copy(update={"config": {**row.config, "username": role, "password": "secret"}})
    limited = config.model_copy(update={"destinations": (row,)})
    assert_ends_unconfirmed(started(limited), config, source, DestinationUnavailable, "connection")
    destination.run(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert_continues(config, source, destination)


@debezium_in_the_long_run
def test_a_destination_restarted_within_a_batch_ends_the_run_and_the_next_continues(
    engine: Engine, destination_server: EmbeddedPostgres, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    # The restart ends this connection, too.
    with suppress(psycopg.OperationalError), destination.connect() as blocker:
        blocker.execute("BEGIN; LOCK TABLE items IN SHARE MODE")
        source.run(*changes(3))
        eventually(lambda: is_held(destination))
        destination_server.restart()
        assert_ends_unconfirmed(worker, config, source, DestinationUnavailable, "by itself")
    assert_continues(config, source, destination)


@debezium_in_the_long_run
def test_a_stalled_destination_is_waited_for_and_other_pipelines_go_on(
    engine: Engine, source: Database, destination: Database, destination_server: EmbeddedPostgres
) -> None:
    other = Database(url=destination_server.create_database(f"other_{next(_NUMBERS)}"))
    config = pipeline(engine, source, [destination], "items")
    other_config = pipeline(engine, source, [other], "notes").model_copy(update={"name": f"{config.name}_2"})
    worker = streaming(pipeline(engine, source, [destination], *TABLES), source, destination)
    with destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE items IN SHARE MODE")
        source.run(*changes(3))
        eventually(lambda: is_held(destination))
        if config.engine is Engine.PGOUTPUT:
            # Two of Debezium's engines in one process share what they publish of themselves.
            free = started(other_config)
            wait_until_equal(free, source, other, "notes")
            assert free.stop(20)
            assert free.wait(0)
        assert not worker.wait(1)
    wait_until_equal(worker, source, destination, *TABLES)
    assert worker.stop(20)
    assert worker.wait(0)


@debezium_in_the_long_run
def test_a_run_behind_a_stalled_destination_can_be_stopped(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STOP_PATIENCE", 1.0)
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    with destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE items IN SHARE MODE")
        source.run(*changes(3))
        eventually(lambda: is_held(destination))
        assert worker.stop(15)
        assert worker.wait(0)
    assert_continues(config, source, destination)

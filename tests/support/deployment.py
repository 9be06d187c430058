"""The running Dagster of the acceptance tests, and what a test asks of it."""

import psutil
import psycopg

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.cdc.store.records import PipelineState
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.demo.environment import DemoEnvironment
from rosetta_dagster.demo.graphql import GraphQL
from rosetta_dagster.testing import Digest, digest
from tests.support.database import Database
from tests.support.webhook import Webhook


class Deployment:
    """The running Dagster, and what a test asks of it."""

    def __init__(self, environment: DemoEnvironment, webhook: Webhook) -> None:
        self.environment = environment
        #: What it tells of failures.
        self.webhook = webhook
        self.store = environment.store
        self.graphql = GraphQL(environment.url)

    def database(self, name: str) -> Database:
        self.environment.postgres.create_database(name)
        return Database(url=self.environment.postgres.url(name))

    def add_pipeline(self, name: str, source: Database, destination: Database, *tables: str, status: Status) -> None:
        """Write the rows of a pipeline, as an operator would."""
        put_source(self.store, DeclaredSource(name=f"{name}_source", connection=source.connection))
        put_destination(
            self.store, DeclaredDestination(name=f"{name}_destination", type="POSTGRES", config=destination.config)
        )
        put_pipeline(
            self.store,
            DeclaredPipeline(
                name=name,
                source=f"{name}_source",
                destinations=(f"{name}_destination",),
                tables=tuple(map(TableId.parse, tables)),
                status=status,
            ),
        )

    def state(self, name: str) -> PipelineState:
        return self.store.state(name)

    def wait_until_streaming(self, name: str, timeout: float = 120) -> float:
        return self.environment.wait_for(f"Streaming of {name}", lambda: self.state(name).run_status == "STREAMING", timeout)

    def wait_until_stopped(self, name: str, timeout: float = 60) -> float:
        return self.environment.wait_for(f"The stop of {name}", lambda: not self.state(name).run_status.is_open, timeout)

    def wait_until_equal(self, source: Database, destination: Database, *tables: str, timeout: float = 180) -> float:
        return self.environment.wait_for(
            "Equality", lambda: digests(source, *tables) == digests(destination, *tables), timeout
        )

    def workers(self) -> list[psutil.Process]:
        """The run workers: processes of this Dagster that have loaded Java."""
        assert self.environment._dagster is not None
        root = psutil.Process(self.environment._dagster.pid)
        return [process for process in root.children(recursive=True) if _runs_java(process)]

    def walsender_count(self) -> int:
        with psycopg.connect(self.environment.postgres.url(), autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'").fetchone()
        assert row is not None
        return int(row[0])


def digests(database: Database, *tables: str) -> list[Digest]:
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return [digest(connection, TableId.parse(table)) for table in tables]


def _runs_java(process: psutil.Process) -> bool:
    try:
        return any("libjvm" in mapped.path for mapped in process.memory_maps())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False

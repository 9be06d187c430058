"""Starts and stops the demo's parts: PostgreSQL, an emulated Snowflake, Dagster's webserver and daemon."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.destination.snowflake.config import EMULATOR
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredPipeline, put_destination, put_pipeline
from rosetta_dagster.cdc.store.records import RunStatus
from rosetta_dagster.demo import shop
from rosetta_dagster.demo.account import DemoAccount
from rosetta_dagster.demo.graphql import GraphQL
from rosetta_dagster.embedded.postgres import EmbeddedPostgres, free_port, is_port_taken
from rosetta_dagster.embedded.process import GuardedProcess
from rosetta_dagster.settings import EMBEDDED_FILE, running_demo

#: Seconds that Dagster may take until its UI shows the pipeline.
DAGSTER_TIMEOUT = 120.0

#: The pipelines from the shop to the warehouse and to Snowflake.
PIPELINE = "shop"
ANALYTICS = "analytics"


_FREE_PORT = "a free one is chosen then"


class DemoFailed(RuntimeError):
    """A part of the demo cannot start or did not do its work in time; the message says which and why."""


class DemoEnvironment:
    """The running demo. Owns the servers, Dagster's processes and a temporary directory, from `start` until `stop`."""

    def __init__(
        self, *, port: int | None = None, postgres_port: int | None = None, definitions: Path | None = None
    ) -> None:
        """Choose free ports and the project's own definitions unless they are given."""
        self._given_ports = {"--port": port, "--postgres-port": postgres_port}
        self.port = port or free_port()
        self.postgres = EmbeddedPostgres(port=postgres_port)
        self.snowflake = DemoAccount()
        self.secret_key = secrets.token_urlsafe(32)
        self._definitions = definitions or project_file("definitions.py")
        self.home = Path(tempfile.mkdtemp(prefix="rosetta-demo-"))
        self._dagster: GuardedProcess | None = None
        self._store: Store | None = None

    def __enter__(self) -> Self:
        with ExitStack() as unless_started:
            unless_started.callback(self.stop)
            self.start()
            unless_started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Store:
        assert self._store is not None, "start comes first"
        return self._store

    def start(self) -> None:
        """Start PostgreSQL and Snowflake, fill the databases, start Dagster. `DemoFailed` when a port is taken."""
        self._refuse_taken_ports()
        os.environ.update({**_direct_connections(), EMULATOR: "true"})
        self.postgres.start()
        for name in ("config", "shop", "warehouse", "dagster"):
            self.postgres.create_database(name)
        shop.create(self.postgres.url("shop"))
        self._store = Store(SecretStr(self.postgres.url("config")), SecretStr(self.secret_key))
        self._store.migrate(seed=True)
        self._point_seed_here()
        self.snowflake.start()
        self._add_analytics()
        self._announce()
        self._start_dagster()

    def stop(self) -> None:
        """Pause the pipelines, wait for their runs, end every process, delete every file."""
        if self._store is not None:
            self.pause_all()
            self._store.close()
        if self._dagster is not None:
            self._dagster.stop()
        self.snowflake.stop()
        self.postgres.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        self._withdraw()

    def wait_for(self, what: str, condition: Callable[[], bool], timeout: float) -> float:
        """Wait until the condition holds; return how many seconds it took. `DemoFailed` after the timeout."""
        started = time.monotonic()
        while not condition():
            waited = time.monotonic() - started
            if waited > timeout:
                raise DemoFailed(f"{what} did not happen within {timeout:.0f} seconds. {self.log_end()}")
            if self._dagster is not None and not self._dagster.is_running:
                raise DemoFailed(f"Dagster ended by itself. {self.log_end()}")
            # Most conditions ask Dagster, which spends more CPU time on the answer than on what is waited for.
            time.sleep(min(0.05 + waited / 20, 0.5))
        return time.monotonic() - started

    def log_end(self) -> str:
        log = self.home / "dagster.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def is_streaming(self, pipeline: str = PIPELINE) -> bool:
        return self.store.state(pipeline).run_status is RunStatus.STREAMING

    def is_stopped(self, pipeline: str = PIPELINE) -> bool:
        return not self.store.state(pipeline).run_status.is_open

    def _point_seed_here(self) -> None:
        """Give the sample rows this server's port and password. They are written in clear and encrypted at first use."""
        with psycopg.connect(self.postgres.url("config"), autocommit=True) as connection:
            connection.execute(
                "UPDATE sources SET pg_port = %s, pg_password = %s", [self.postgres.port, self.postgres.password]
            )
            connection.execute(
                "UPDATE destinations SET config = config || jsonb_build_object('port', %s::int, 'password', %s::text)",
                [self.postgres.port, self.postgres.password],
            )

    def _add_analytics(self) -> None:
        """Add the pipeline from the shop to Snowflake, over a slot of its own."""
        # Without Java: one JVM is enough for a small machine.
        put_destination(self.store, DeclaredDestination(name="snowflake", type="SNOWFLAKE", config=self.snowflake.config()))
        put_pipeline(
            self.store,
            DeclaredPipeline(
                name=ANALYTICS, source="shop", destinations=("snowflake",), tables=shop.TABLES, engine=Engine.PGOUTPUT
            ),
        )

    def _announce(self) -> None:
        """Let `rosetta` in another terminal of this directory find the demo. The first demo of a directory keeps it."""
        if running_demo() is not None:
            return
        EMBEDDED_FILE.parent.mkdir(exist_ok=True)
        EMBEDDED_FILE.touch(mode=0o600)
        EMBEDDED_FILE.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "config_database_url": self.postgres.url("config"),
                    "secret_key": self.secret_key,
                    "dagster": self.url,
                    "dagster_environment": self._dagster_environment(),
                }
            )
        )

    def _withdraw(self) -> None:
        """Delete the announcement, unless it is another demo's."""
        with suppress(OSError, ValueError, KeyError):
            if json.loads(EMBEDDED_FILE.read_text())["pid"] == os.getpid():
                EMBEDDED_FILE.unlink()

    def _refuse_taken_ports(self) -> None:
        for option, port in self._given_ports.items():
            if port is not None and is_port_taken(port):
                raise DemoFailed(f"Port {port} is in use. Name another one with {option}, or leave it out: {_FREE_PORT}.")

    def _start_dagster(self) -> None:
        for name in ("deploy/dagster.yaml", "workspace.yaml"):
            shutil.copy(project_file(name), self.home)
        shutil.copy(self._definitions, self.home / "definitions.py")
        self._dagster = GuardedProcess(
            [
                sys.executable, "-m", "dagster", "dev", "-w", str(self.home / "workspace.yaml"),
                "--host", "127.0.0.1", "--port", str(self.port),
            ],
            log=self.home / "dagster.log",
            environment=self._environment(),
            throwaway=self.home,
        )  # fmt: skip
        graphql = GraphQL(self.url)
        self.wait_for("The start of Dagster", lambda: graphql.has_job(f"rosetta_{PIPELINE}"), DAGSTER_TIMEOUT)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CONFIG_DATABASE_URL": self.postgres.url("config"),
            "SECRET_KEY": self.secret_key,
            # Shorter than the defaults, for a person who watches.
            "POLL_INTERVAL_SECONDS": "3",
            "WAL_MONITOR_INTERVAL_SECONDS": "15",
            "MATERIALIZE_INTERVAL_SECONDS": "5",
            "TABLE_CHECK_INTERVAL_SECONDS": "30",
            # Dagster does not delete its sockets.
            "TMPDIR": str(self.home),
            **self._dagster_environment(),
            # docs/api.md names these variables.
            "ROSETTA_SECRET_DEMO_PASSWORD": self.postgres.password,
            **self.snowflake.environment(),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(project_root()), os.environ.get("PYTHONPATH")])),
        }

    def _dagster_environment(self) -> dict[str, str]:
        """Return what finds the records of this Dagster."""
        return {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.postgres.port),
            "DAGSTER_PG_USERNAME": "postgres",
            "DAGSTER_PG_PASSWORD": self.postgres.password,
            "DAGSTER_PG_DB": "dagster",
        }

    def pause_all(self) -> None:
        """Pause the pipelines, and wait up to 15 seconds for their runs to end."""
        for state in self.store.states():
            self.store.set_status(state.name, Status.PAUSE)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(state.run_status.is_open for state in self.store.states()):
            time.sleep(0.1)


def _direct_connections() -> dict[str, str]:
    """Return variables that keep these processes from using a proxy for the loopback or a cloud's metadata service."""
    hosts = filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"])
    return {**dict.fromkeys(["no_proxy", "NO_PROXY"], ",".join(hosts)), "AWS_EC2_METADATA_DISABLED": "true"}


def project_root() -> Path:
    """Return the directory of `definitions.py`: in the installed package, or the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "project"
    return installed if installed.is_dir() else package.parent


def project_file(name: str) -> Path:
    return project_root() / name

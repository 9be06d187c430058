"""Everything that the demo runs: PostgreSQL, an emulated Snowflake, Dagster's webserver and daemon. Nothing outlives it."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredPipeline, put_destination, put_pipeline
from rosetta_dagster.demo import shop
from rosetta_dagster.demo.account import DemoAccount
from rosetta_dagster.demo.graphql import GraphQL
from rosetta_dagster.embedded.postgres import EmbeddedPostgres, free_port
from rosetta_dagster.embedded.process import GuardedProcess
from rosetta_dagster.settings import EMBEDDED_FILE

#: How long Dagster may take until its UI shows the pipeline, in seconds.
DAGSTER_TIMEOUT = 120.0

#: To the warehouse, and to Snowflake; both read the shop.
PIPELINE = "shop"
ANALYTICS = "analytics"


class DemoFailed(RuntimeError):
    """Something did not come up in time; the message holds the end of its log."""


class DemoEnvironment:
    """The running demo. Owns the servers, Dagster's processes and a temporary directory, from `start` until `stop`."""

    def __init__(
        self, *, port: int | None = None, postgres_port: int | None = None, definitions: Path | None = None
    ) -> None:
        """Free ports and the project's own definitions unless given."""
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
        """Start PostgreSQL and Snowflake, fill the databases, start Dagster."""
        os.environ.update(_directly())
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
        """Pause the pipelines, wait for their runs, end every process, remove every file."""
        if self._store is not None:
            self.pause_all()
            self._store.close()
        if self._dagster is not None:
            self._dagster.stop()
        self.snowflake.stop()
        self.postgres.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        EMBEDDED_FILE.unlink(missing_ok=True)

    def wait_for(self, what: str, condition: Callable[[], bool], timeout: float) -> float:
        """Wait until the condition holds; the seconds that it took. `DemoFailed` when it does not in time."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > timeout:
                raise DemoFailed(f"{what} did not happen within {timeout:.0f} seconds. {self.log_end()}")
            if self._dagster is not None and not self._dagster.is_running:
                raise DemoFailed(f"Dagster ended by itself. {self.log_end()}")
            time.sleep(0.05)
        return time.monotonic() - started

    def log_end(self) -> str:
        log = self.home / "dagster.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def is_streaming(self, pipeline: str = PIPELINE) -> bool:
        return self.store.state(pipeline).run_status == "STREAMING"

    def is_stopped(self, pipeline: str = PIPELINE) -> bool:
        return self.store.state(pipeline).run_status in ("STOPPED", "FAILED")

    def _point_seed_here(self) -> None:
        """The sample rows name the usual port and password; they are written in clear, and encrypted at first use."""
        with psycopg.connect(self.postgres.url("config"), autocommit=True) as connection:
            connection.execute(
                "UPDATE sources SET pg_port = %s, pg_password = %s", [self.postgres.port, self.postgres.password]
            )
            connection.execute(
                "UPDATE destinations SET config = config || jsonb_build_object('port', %s::int, 'password', %s::text)",
                [self.postgres.port, self.postgres.password],
            )

    def _add_analytics(self) -> None:
        """The shop once more, to Snowflake, over a slot of its own. Java once is enough for a small machine."""
        put_destination(self.store, DeclaredDestination(name="snowflake", type="SNOWFLAKE", config=self.snowflake.config()))
        put_pipeline(
            self.store,
            DeclaredPipeline(
                name=ANALYTICS, source="shop", destinations=("snowflake",), tables=shop.TABLES, engine=Engine.PGOUTPUT
            ),
        )

    def _announce(self) -> None:
        """Let `rosetta` in another terminal find the demo."""
        EMBEDDED_FILE.parent.mkdir(exist_ok=True)
        EMBEDDED_FILE.touch(mode=0o600)
        EMBEDDED_FILE.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "config_database_url": self.postgres.url("config"),
                    "secret_key": self.secret_key,
                    "dagster": self.url,
                }
            )
        )

    def _start_dagster(self) -> None:
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(project_file(name), self.home / name)
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
            # Quicker than the defaults, for somebody who watches.
            "POLL_INTERVAL_SECONDS": "3",
            "WAL_MONITOR_INTERVAL_SECONDS": "15",
            "MATERIALIZE_INTERVAL_SECONDS": "5",
            "TABLE_CHECK_INTERVAL_SECONDS": "30",
            "DAGSTER_HOME": str(self.home),
            # Dagster leaves its sockets behind.
            "TMPDIR": str(self.home),
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.postgres.port),
            "DAGSTER_PG_USERNAME": "postgres",
            "DAGSTER_PG_PASSWORD": self.postgres.password,
            "DAGSTER_PG_DB": "dagster",
            # What docs/api.md names as the places of the demo's secrets.
            "DEMO_PASSWORD": self.postgres.password,
            **self.snowflake.environment(),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(project_root()), os.environ.get("PYTHONPATH")])),
        }

    def pause_all(self) -> None:
        """Pause the pipelines, and wait a while for their runs to end."""
        for state in self.store.states():
            self.store.set_status(state.name, Status.PAUSE)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and any(_is_alive(state.run_status) for state in self.store.states()):
            time.sleep(0.1)


def _directly() -> dict[str, str]:
    """What keeps this process and its children from asking a proxy for the loopback, or a cloud for who they are."""
    hosts = filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"])
    return {**dict.fromkeys(["no_proxy", "NO_PROXY"], ",".join(hosts)), "AWS_EC2_METADATA_DISABLED": "true"}


def _is_alive(run_status: str) -> bool:
    return run_status in ("STARTING", "SNAPSHOT", "STREAMING")


def project_root() -> Path:
    """Where `definitions.py` and the files beside it are: in the checkout, or with the installed package."""
    package = Path(__file__).parents[1]
    installed = package / "project"
    return installed if installed.is_dir() else package.parent


def project_file(name: str) -> Path:
    return project_root() / name

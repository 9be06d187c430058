"""The part `snowflake`: a copy and a backlog, by a worker that writes to an emulated account.

Nothing is compared. The emulator uses part of the same machine, which an account would not.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from bench.contenders import connection_of, is_active, wait_until
from bench.process import Usage, WorkerProcess, usage_of
from bench.results import Measurement, PartResult
from bench.servers import settle
from bench.verify import ReplicaDiffers
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.destination.snowflake.kind import SNOWFLAKE
from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.operate.sessions import SnowflakeSession
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from rosetta_dagster.testing import are_same_at_snowflake

_NUMBERS = itertools.count(1)

_USER: Final = "BENCH"
_WAREHOUSE: Final = "LOADING"

#: Seconds between two polls of the destination: each poll costs the emulator some milliseconds.
_LOOK: Final = 0.1

#: Rows that are compared at once.
_COMPARED: Final = 100_000

_CREATE: Final[LiteralString] = """
CREATE TABLE facts (
    id bigint PRIMARY KEY, account_id int NOT NULL, kind text NOT NULL, amount numeric(12, 2), at timestamptz NOT NULL,
    is_open boolean NOT NULL, note text, body jsonb
);
INSERT INTO facts
SELECT n, n %% 1000, 'kind ' || n %% 7, n %% 100000 / 100.0, timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
       n %% 2 = 0, 'note ' || n, jsonb_build_object('number', n, 'kind', 'first')
FROM generate_series(1, %(rows)s) AS n;
CREATE PUBLICATION bench FOR TABLE facts;
"""

#: Transactions of ten changes: six updates, three inserts, a delete. The last row marks the end.
_BACKLOG: Final[LiteralString] = """
CREATE PROCEDURE write_backlog(transaction_count int, row_count int) LANGUAGE plpgsql AS $$
DECLARE
    next_id bigint := row_count + 1;
    picked bigint;
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        FOR step IN 1 .. 6 LOOP
            picked := transaction_count + 1 + floor(random() * (row_count - transaction_count));
            UPDATE facts SET amount = amount + step, is_open = NOT is_open WHERE id = picked;
        END LOOP;
        INSERT INTO facts
        SELECT n, n % 1000, 'kind ' || n % 7, n % 1000 / 10.0, now(), true, 'note ' || n, jsonb_build_object('number', n)
        FROM generate_series(next_id, next_id + 2) AS n;
        DELETE FROM facts WHERE id = number;
        next_id := next_id + 3;
        COMMIT;
    END LOOP;
END $$;
"""


@dataclass(frozen=True, kw_only=True)
class _Account:
    """An emulated account, and the user that replicates into it."""

    server: SnowflakeServer
    key_pair: KeyPair = field(repr=False)

    def config(self, database: str) -> dict[str, Any]:
        """The `destinations.config` of the account, with a short flush, so that the end of a backlog does not wait."""
        return {
            **self.server.address,
            "user": _USER,
            "database": database,
            "warehouse": _WAREHOUSE,
            "private_key": self.key_pair.private_key,
            "private_key_passphrase": self.key_pair.passphrase,
            "flush_seconds": 1.0,
        }

    def usage(self) -> Usage:
        assert self.server.pid is not None, "it runs as long as the part"
        return usage_of(self.server.pid)


def copy_and_backlog(source: EmbeddedPostgres, *, repetitions: int, rows: int, transactions: int) -> PartResult:
    """From the start of a worker until every row is copied; from the start of the next one until the backlog has arrived."""
    result, pair = PartResult(part="snowflake"), KeyPair.generate()
    with SnowflakeServer(users={_USER: [pair.public_key]}, warehouses=[_WAREHOUSE]) as server:
        account = _Account(server=server, key_pair=pair)
        for _ in range(repetitions):
            result.measurements.extend(_one_turn(source, account, rows, transactions))
    return result


def _one_turn(source: EmbeddedPostgres, account: _Account, rows: int, transactions: int) -> list[Measurement]:
    number = next(_NUMBERS)
    url, database, last = source.create_database(f"snowflake_{number}"), f"BENCH_{number}", rows + 3 * transactions
    _create(url, rows)
    with _database(account, database) as session, tempfile.TemporaryDirectory() as logs:
        config, log = _pipeline(url, account.config(database), number), Path(logs) / "worker.log"
        has_copy = _shows(session, "SELECT 1 FROM ROSETTA.COPIES WHERE FINISHED_AT IS NOT NULL")
        has_last = _shows(session, f"SELECT 1 FROM PUBLIC.FACTS WHERE ID = {last}")  # noqa: S608 - a number
        copied = _measured("copy", config, log, has_copy, rows)
        _write_backlog(url, rows, transactions)
        caught_up = _measured("backlog", config, log, has_last, 10 * transactions)
        _verify(url, session, last)
        emulator = _emulator(account.usage())
    _drop_slot(url, config.slot_name)
    return [copied, caught_up, emulator]


def _create(url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_CREATE, {"rows": rows})
        connection.execute(_BACKLOG)
    settle(url)


def _write_backlog(url: str, rows: int, transactions: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("CALL write_backlog(%s, %s)", [transactions, rows])
    settle(url)


@contextmanager
def _database(account: _Account, name: str) -> Iterator[SnowflakeSession]:
    """A database of the account, and a session to poll it."""
    with SNOWFLAKE.session("the bench", account.config("ANALYTICS")) as session:
        session.execute(f"CREATE DATABASE {name}")
    with SNOWFLAKE.session("the bench", account.config(name)) as session:
        yield session
        session.execute(f"DROP DATABASE {name}")


def _pipeline(url: str, config: dict[str, Any], number: int) -> PipelineConfig:
    return PipelineConfig(
        id=1,
        name=f"bench_snowflake_{number}",
        engine=Engine.PGOUTPUT,
        source=SourceConfig(name="source", connection=connection_of(url), publication_name="bench"),
        destinations=(DestinationConfig(name="snowflake", type="SNOWFLAKE", config=config),),
        tables=(TableConfig(id=TableId("public", "facts")),),
    )


def _shows(session: SnowflakeSession, query: str) -> Callable[[], bool]:
    """Return a condition that polls the query, at long intervals. A missing table counts as empty."""

    def shows() -> bool:
        time.sleep(_LOOK)
        try:
            return bool(session.execute(query))
        except DestinationRejected:
            return False

    return shows


def _measured(what: str, config: PipelineConfig, log: Path, is_there: Callable[[], bool], amount: int) -> Measurement:
    """Run a worker until the condition is true."""
    began = time.perf_counter()
    worker = WorkerProcess(config, log)
    # Do not wait for a worker that has failed.
    wait_until(lambda: worker.usage() is not None and is_there())
    seconds, usage = time.perf_counter() - began, worker.usage()
    # Only a stream that was open once has a slot that can be continued.
    wait_until(lambda: is_active(config.source.connection.conninfo(), config.slot_name))
    worker.stop()
    return Measurement(
        contender=what,
        seconds=seconds,
        amount=amount,
        cpu_seconds=usage.cpu_seconds,
        peak_rss_bytes=usage.peak_rss_bytes,
        rss_bytes=usage.rss_bytes,
    )


def _emulator(usage: Usage) -> Measurement:
    return Measurement(
        contender="the emulator",
        cpu_seconds=usage.cpu_seconds,
        peak_rss_bytes=usage.peak_rss_bytes,
        rss_bytes=usage.rss_bytes,
    )


def _verify(url: str, session: SnowflakeSession, last: int) -> None:
    """Raise `ReplicaDiffers` when a row is missing, is extra, or differs in a value."""
    with psycopg.connect(url) as connection:
        for first in range(0, last + 1, _COMPARED):
            bounds = [first, first + _COMPARED]
            rows = connection.execute("SELECT * FROM facts WHERE id >= %s AND id < %s ORDER BY id", bounds).fetchall()
            replica = session.execute("SELECT * FROM PUBLIC.FACTS WHERE ID >= ? AND ID < ? ORDER BY ID", bounds)
            if not are_same_at_snowflake(rows, replica):
                raise ReplicaDiffers(f"the rows from {first} on are not those of the source")
        ((count,),) = session.execute("SELECT COUNT(*) FROM PUBLIC.FACTS")
        if connection.execute("SELECT count(*) FROM facts").fetchone() != (count,):
            raise ReplicaDiffers("there are rows that the source does not have")


def _drop_slot(url: str, slot: str) -> None:
    wait_until(lambda: not is_active(url, slot))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])

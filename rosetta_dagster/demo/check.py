"""`rosetta demo --check`: the demo without a person, from the first start to the last process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import psycopg
from rich.console import Console

from rosetta_dagster.cdc.config import Status
from rosetta_dagster.demo import shop
from rosetta_dagster.demo.environment import PIPELINE, DemoEnvironment
from rosetta_dagster.demo.graphql import GraphQL
from rosetta_dagster.testing import Digest, digest

#: What the check demands, in seconds.
PAUSE_LIMIT = 3.0
START_LIMIT = 45.0

_WALSENDERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"


@dataclass(slots=True)
class _Figures:
    """What was seen, line by line; a line that falls short fails the check."""

    console: Console
    failures: list[str] = field(default_factory=list)

    def show(self, what: str, figure: str, *, holds: bool = True) -> None:
        self.console.print(f"  {'ok  ' if holds else 'FAIL'} {what:<44} {figure}", highlight=False)
        if not holds:
            self.failures.append(what)


def check(*, port: int | None, postgres_port: int | None) -> bool:
    """Run the demo through a pipeline's life; whether all of it went as it should."""
    figures = _Figures(Console())
    started = time.monotonic()
    with DemoEnvironment(port=port, postgres_port=postgres_port) as environment:
        figures.show("PostgreSQL and Dagster are up", f"{time.monotonic() - started:.1f} s")
        _start(environment, figures)
        writer = shop.Writer(environment.postgres.url("shop"))
        writer.start()
        _replicate(environment, figures)
        _pause(environment, figures)
        _resume(environment, figures)
        writer.stop()
        _compare(environment, figures, "destination equals source after START")
        _read_checks(environment, figures)
        figures.show("transactions of the steady writer", f"{writer.transaction_count:,}")
        stopping = time.monotonic()
    figures.show("every process has ended", f"{time.monotonic() - stopping:.1f} s")
    figures.show("in all", f"{time.monotonic() - started:.1f} s")
    return not figures.failures


def _start(environment: DemoEnvironment, figures: _Figures) -> None:
    with psycopg.connect(environment.postgres.url("config"), autocommit=True) as connection:
        connection.execute("UPDATE pipelines SET status = 'START' WHERE name = 'shop'")
    took = environment.wait_for("Streaming", environment.is_streaming, START_LIMIT * 2)
    copied = environment.store.state(PIPELINE).rows_copied
    figures.show("status START until the tables are copied", f"{took:.1f} s, {copied:,} rows", holds=took < START_LIMIT)


def _replicate(environment: DemoEnvironment, figures: _Figures) -> None:
    orders = 20_000
    started = time.monotonic()
    shop.write_burst(environment.postgres.url("shop"), orders)
    environment.wait_for("The burst's arrival", _holds_orders(environment, 10_000 + orders * 0.99), 90)
    took = time.monotonic() - started
    figures.show("a burst of changes", f"{2 * orders:,} changes in {took:.1f} s, {2 * orders / took:,.0f}/s")
    lags = [_one_change(environment) for _ in range(5)]
    figures.show("one change, committed until seen (median of 5)", f"{statistics.median(lags) * 1000:.0f} ms")


def _holds_orders(environment: DemoEnvironment, count: float) -> Callable[[], bool]:
    def holds() -> bool:
        with psycopg.connect(environment.postgres.url("warehouse"), autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM orders").fetchone()
        return row is not None and row[0] >= count

    return holds


def _one_change(environment: DemoEnvironment) -> float:
    with psycopg.connect(environment.postgres.url("shop"), autocommit=True) as source:
        mark = f"mark {time.monotonic_ns()}"
        source.execute("UPDATE customers SET city = %s WHERE id = 1", [mark])
    started = time.monotonic()
    with psycopg.connect(environment.postgres.url("warehouse"), autocommit=True) as warehouse:
        while warehouse.execute("SELECT city FROM customers WHERE id = 1").fetchone() != (mark,):
            if time.monotonic() - started > 30:
                return float("inf")
            time.sleep(0.002)
    return time.monotonic() - started


def _pause(environment: DemoEnvironment, figures: _Figures) -> None:
    environment.store.set_status(PIPELINE, Status.PAUSE)
    took = environment.wait_for("The stop after PAUSE", environment.is_stopped, 30)
    figures.show("PAUSE until the run has stopped", f"{took:.1f} s", holds=took < PAUSE_LIMIT)
    with psycopg.connect(environment.postgres.url("shop"), autocommit=True) as connection:
        row = connection.execute(_WALSENDERS).fetchone()
    count = row[0] if row else 0
    figures.show("walsenders left", str(count), holds=count == 0)


def _resume(environment: DemoEnvironment, figures: _Figures) -> None:
    time.sleep(2)
    environment.store.set_status(PIPELINE, Status.START)
    took = environment.wait_for("Streaming after START", environment.is_streaming, START_LIMIT * 2)
    figures.show("START until it streams again", f"{took:.1f} s", holds=took < START_LIMIT)


def _compare(environment: DemoEnvironment, figures: _Figures, what: str) -> None:
    source = _digests(environment, "shop")
    started = time.monotonic()
    while _digests(environment, "warehouse") != source and time.monotonic() - started < 60:
        time.sleep(0.2)
    is_equal = _digests(environment, "warehouse") == source
    figures.show(what, f"{sum(d.row_count for d in source):,} rows by value", holds=is_equal)


def _digests(environment: DemoEnvironment, database: str) -> list[Digest]:
    with psycopg.connect(environment.postgres.url(database), autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return [digest(connection, table) for table in shop.TABLES]


def _read_checks(environment: DemoEnvironment, figures: _Figures) -> None:
    graphql = GraphQL(environment.url)
    for name in ("wal_lag", "health"):
        environment.wait_for(f"The check {name}", partial(_has_passed, graphql, name), 60)
        execution = graphql.last_check(PIPELINE, name)
        shown = f"passed, {execution.figures}" if execution and execution.figures else "passed"
        figures.show(f"check {name} over GraphQL", shown)
    figures.show("runs over GraphQL, the newest first", ", ".join(graphql.run_statuses(PIPELINE)))


def _has_passed(graphql: GraphQL, name: str) -> bool:
    execution = graphql.last_check(PIPELINE, name)
    return execution is not None and execution.passed

"""`rosetta demo --check`: runs the demo without a person, from its start to its end, and checks each step."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import psycopg
from rich.console import Console

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo import shop
from rosetta_dagster.demo.environment import ANALYTICS, PIPELINE, DemoEnvironment
from rosetta_dagster.demo.graphql import GraphQL
from rosetta_dagster.testing import Digest, digest

#: Seconds that a pause and a start may take.
PAUSE_LIMIT = 3.0
START_LIMIT = 45.0

_WALSENDERS = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rosetta_shop' AND active"


@dataclass(slots=True)
class _Figures:
    """Prints the figures, a line each, and collects those that fail the check."""

    console: Console
    failures: list[str] = field(default_factory=list)

    def show(self, what: str, figure: str, *, holds: bool = True) -> None:
        self.console.print(f"  {'ok  ' if holds else 'FAIL'} {what:<44} {figure}", highlight=False)
        if not holds:
            self.failures.append(what)


def check(*, port: int | None, postgres_port: int | None) -> bool:
    """Run a pipeline through its life. Return True if every step passed."""
    figures = _Figures(Console())
    started = time.monotonic()
    with DemoEnvironment(port=port, postgres_port=postgres_port) as environment:
        figures.show("PostgreSQL, Snowflake and Dagster are up", f"{time.monotonic() - started:.1f} s")
        _start(environment, figures)
        writer = shop.Writer(environment.postgres.url("shop"))
        writer.start()
        _replicate(environment, figures)
        _pause(environment, figures)
        _resume(environment, figures)
        writer.stop()
        _compare(environment, figures, "destination equals source after START")
        _compare_snowflake(environment, figures)
        _read_checks(environment, figures)
        figures.show("transactions of the steady writer", f"{writer.transaction_count:,}")
        stopping = time.monotonic()
    figures.show("every process has ended", f"{time.monotonic() - stopping:.1f} s")
    figures.show("in all", f"{time.monotonic() - started:.1f} s")
    return not figures.failures


def _start(environment: DemoEnvironment, figures: _Figures) -> None:
    with psycopg.connect(environment.postgres.url("config"), autocommit=True) as connection:
        connection.execute("UPDATE pipelines SET status = 'START'")
    started = time.monotonic()
    for pipeline, where in ((PIPELINE, "the warehouse"), (ANALYTICS, "Snowflake")):
        environment.wait_for(f"Streaming of {pipeline}", partial(environment.is_streaming, pipeline), START_LIMIT * 2)
        took, copied = time.monotonic() - started, environment.store.state(pipeline).rows_copied
        figures.show(f"START until the tables are at {where}", f"{took:.1f} s, {copied:,} rows", holds=took < START_LIMIT)


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


def _compare_snowflake(environment: DemoEnvironment, figures: _Figures) -> None:
    """Compare the second pipeline, which went on while the first one was paused."""
    started = time.monotonic()
    while (row_count := _equal_at_snowflake(environment)) is None and time.monotonic() - started < 60:
        time.sleep(0.5)
    shown = f"{row_count or 0:,} rows by value, after {time.monotonic() - started:.1f} s"
    figures.show("Snowflake equals source", shown, holds=row_count is not None)
    state = environment.store.state(ANALYTICS)
    figures.show("changes at Snowflake", f"{state.rows_applied:,}", holds=environment.is_streaming(ANALYTICS))


def _equal_at_snowflake(environment: DemoEnvironment) -> int | None:
    return environment.snowflake.equal_rows(environment.postgres.url("shop"), shop.TABLES)


def _digests(environment: DemoEnvironment, database: str) -> list[Digest]:
    with psycopg.connect(environment.postgres.url(database), autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return [digest(connection, table) for table in shop.TABLES]


def _read_checks(environment: DemoEnvironment, figures: _Figures) -> None:
    graphql = GraphQL(environment.url)
    for pipeline, name in ((PIPELINE, "wal_lag"), (PIPELINE, "health"), (ANALYTICS, "health")):
        environment.wait_for(f"The check {name} of {pipeline}", partial(_has_passed, graphql, pipeline, name), 60)
        execution = graphql.last_check(pipeline, name)
        shown = f"passed, {execution.figures}" if execution and execution.figures else "passed"
        figures.show(f"check {name} of {pipeline} over GraphQL", shown)
    for pipeline, runs in ((PIPELINE, 2), (ANALYTICS, 1)):
        statuses = graphql.run_statuses(pipeline)
        figures.show(f"runs of {pipeline}, the newest first", ", ".join(statuses), holds=len(statuses) == runs)


def _has_passed(graphql: GraphQL, pipeline: str, name: str) -> bool:
    execution = graphql.last_check(pipeline, name)
    return execution is not None and execution.passed

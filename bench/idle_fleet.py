"""The part `idle-30`: what thirty idle pipelines cost the configuration database, and the control sensor.

The processes are those of `bench.supervised`: workers of PGOUTPUT that replicate one quiet table each, hold their lease,
poll their row twice a second and report every two seconds, as runs do. Left out are reports to Dagster, the daemon's work
around a tick, and the two other sensors.

- configuration database: CPU of all processes of a server that has nothing else to do, those that ended included.
- control sensor: CPU within its ticks, at its interval.
- workers: CPU and resident memory of all thirty.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from pydantic import SecretStr

from bench.contenders import connection_of, wait_until
from bench.field import Scale
from bench.fleet import SECRET_KEY, Fleet, sensor
from bench.process import server_cpu_seconds
from bench.results import Measurement, PartResult
from bench.servers import Servers, drop_database
from bench.spread import spread
from bench.workload import create_source
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status, default_name
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.cdc.store.records import RunStatus
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres

_COUNT: Final = 30
_ROW_COUNT: Final = 3_000

#: Ticks of the sensor that are watched, each with its interval.
_TICKS: Final = 3

#: Seconds between two polls of the workers' progress.
_LOOK: Final = 0.5


def idle_fleet(servers: Servers, scale: Scale) -> PartResult:
    """Measure CPU over this many seconds. Return the seconds of CPU of each."""
    result = PartResult(part=f"{_COUNT} idle pipelines", is_timed=False)
    source, destination = servers.source.create_database("idle_source"), servers.destination.create_database("idle_copy")
    create_source(source, spread(tables=_COUNT, rows=_ROW_COUNT))
    with (
        EmbeddedPostgres(settings={"fsync": "on"}) as server,
        Store(SecretStr(server.url()), SecretStr(SECRET_KEY)) as store,
    ):
        store.migrate()
        names = _add_pipelines(store, source, destination)
        with _streaming(store, server.url(), names) as fleet, sensor(server.url()) as ticks:
            # The first tick imports what the others use.
            ticks(1)
            for _ in range(scale.repetitions):
                result.measurements.extend(_watched(server.url(), fleet, ticks))
        _drop_slots(source, names)
    for url in (source, destination):
        drop_database(url)
    return result


def _add_pipelines(store: Store, source: str, destination: str) -> list[str]:
    """Add a pipeline for each table, from one source to one destination, with the status START."""
    target = connection_of(destination)
    assert target.password is not None, "the embedded server has one"
    config = {**target.model_dump(exclude={"password"}), "password": target.password.get_secret_value()}
    put_source(store, DeclaredSource(name="source", connection=connection_of(source)))
    put_destination(store, DeclaredDestination(name="destination", type="POSTGRES", config=config))
    tables = {f"idle_{n}": TableId("public", f"spread_{n}") for n in range(_COUNT)}
    for name, table in tables.items():
        wanted = DeclaredPipeline(
            name=name,
            source="source",
            destinations=("destination",),
            tables=(table,),
            engine=Engine.PGOUTPUT,
            status=Status.START,
        )
        put_pipeline(store, wanted)
    return list(tables)


@contextmanager
def _streaming(store: Store, config_url: str, names: Sequence[str]) -> Iterator[Fleet]:
    """Yield the workers of these pipelines once all of them stream. Pause them at the end."""
    with tempfile.TemporaryDirectory() as logs:
        fleet = Fleet(config_url, names, Path(logs))
        try:
            wait_until(lambda: _are_streaming(store, fleet))
            yield fleet
            for name in names:
                store.set_status(name, Status.PAUSE)
            fleet.wait()
        finally:
            fleet.kill()


def _are_streaming(store: Store, fleet: Fleet) -> bool:
    time.sleep(_LOOK)
    fleet.usage()
    return all(state.run_status is RunStatus.STREAMING for state in store.states())


def _watched(config_url: str, fleet: Fleet, ticks: Callable[[int], float]) -> list[Measurement]:
    began, server_before, fleet_before = time.perf_counter(), server_cpu_seconds(config_url), fleet.usage()
    sensor_seconds = ticks(_TICKS)
    seconds, server_after, fleet_after = time.perf_counter() - began, server_cpu_seconds(config_url), fleet.usage()
    return [
        Measurement(contender="configuration database", seconds=seconds, cpu_seconds=server_after - server_before),
        Measurement(contender="control sensor", seconds=seconds, cpu_seconds=sensor_seconds),
        Measurement(
            contender=f"{_COUNT} workers",
            seconds=seconds,
            cpu_seconds=fleet_after.cpu_seconds - fleet_before.cpu_seconds,
            peak_rss_bytes=fleet_after.peak_rss_bytes,
            rss_bytes=fleet_after.rss_bytes,
        ),
    ]


def _drop_slots(source: str, names: Sequence[str]) -> None:
    with psycopg.connect(source, autocommit=True) as connection:
        for name in names:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [default_name(name)])

"""The part `pipelines`: the same changes, divided among 1, 5 and 10 pipelines that run side by side.

Each pipeline has a process, a slot, a publication, a table and a destination database of its own; the source database is
the same, so each slot reads all of its log. A transaction changes the table of one pipeline.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from psycopg import sql

from bench.contenders import Contender, Rosetta, has_marker
from bench.field import Field, Lineup, Scale, copied, wait_for
from bench.results import Measurement, PartResult
from bench.servers import Servers
from bench.spread import spread
from bench.workload import Workload, write
from rosetta_dagster.cdc.change.position import Engine

_COUNTS: Final = (1, 5, 10)
_CHANGE_COUNT: Final = 200_000
_ROW_COUNT: Final = 100_000

#: Transactions of ten changes in one table, the tables in turn: five updates and five inserts.
_WRITE: Final = sql.SQL("""
CREATE PROCEDURE write_in_turn(transaction_count int) LANGUAGE plpgsql AS $$
DECLARE
    turn int;
    picked bigint;
BEGIN
    FOR number IN 1 .. transaction_count LOOP
        turn := number % {tables};
        FOR step IN 1 .. 5 LOOP
            picked := floor(random() * ({rows} / {tables})) * {tables} + turn;
            EXECUTE format('UPDATE spread_%s SET amount = amount + 1 WHERE id = $1', turn) USING picked;
            EXECUTE format('INSERT INTO spread_%s VALUES ($1, 0, ''row '' || $1)', turn) USING nextval('numbers');
        END LOOP;
        COMMIT;
    END LOOP;
END $$;
""")


def pipelines(servers: Servers, scale: Scale) -> Iterator[PartResult]:
    """From the start of all processes until each has caught up; CPU and memory are the sums of all."""
    engines = [engine for engine in (Engine.PGOUTPUT, Engine.DEBEZIUM) if engine.lower() in scale.names()]
    for count in _COUNTS:
        result = PartResult(part=f"{_CHANGE_COUNT:,} changes by {count} pipeline{'s' if count > 1 else ''}")
        for engine in engines:
            result.measurements.extend(_turns(servers, scale.repetitions, engine, count))
        if engines:
            yield result


def _turns(servers: Servers, repetitions: int, engine: Engine, count: int) -> Iterator[Measurement]:
    with copied(servers, _workload(count), _fleet(servers, engine, count)) as place:
        for marker in range(repetitions):
            write(place.source, f"CALL write_in_turn({_CHANGE_COUNT // 10})", marker)
            place.settle()
            yield _catch_up(place, marker)


def _workload(count: int) -> Workload:
    plain = spread(tables=count, rows=_ROW_COUNT)
    procedure = _WRITE.format(tables=sql.Literal(count), rows=sql.Literal(_ROW_COUNT))
    return replace(plain, prepare=(*plain.prepare, procedure))


def _fleet(servers: Servers, engine: Engine, count: int) -> Lineup:
    """One pipeline for each table. Every one has `marker` too."""

    def lineup(source: str, number: int, logs: Path) -> list[Contender]:
        def pipeline(turn: int) -> Rosetta:
            label, tables = f"{number}_{turn}", (f"spread_{turn}", "marker")
            destination = servers.destination.create_database(f"{engine.lower()}_{label}")
            return Rosetta(source, destination, label, engine=engine, logs=logs, tables=tables, publication=None)

        return [pipeline(turn) for turn in range(count)]

    return lineup


def _catch_up(place: Field, marker: int) -> Measurement:
    began = time.perf_counter()
    for contender in place.contenders:
        contender.start()
    # One after another: what is visible stays visible, and polling uses the machine.
    for contender in place.contenders:
        _wait_for_marker(contender, marker)
    caught_up = _sum(place, time.perf_counter() - began)
    for contender in place.contenders:
        contender.stop()
        place.verify(contender)
    return caught_up


def _wait_for_marker(contender: Contender, marker: int) -> None:
    wait_for(contender, lambda: has_marker(contender.destination, marker))


def _sum(place: Field, seconds: float) -> Measurement:
    usages = [usage for contender in place.contenders if (usage := contender.usage()) is not None]
    return Measurement(
        contender=place.contenders[0].name,
        seconds=seconds,
        amount=_CHANGE_COUNT,
        cpu_seconds=sum(usage.cpu_seconds for usage in usages),
        peak_rss_bytes=sum(usage.peak_rss_bytes for usage in usages),
        rss_bytes=sum(usage.rss_bytes for usage in usages),
    )

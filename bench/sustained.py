"""The part `sustained`: rows are written at a steady rate for a minute, and the lag is measured.

Each contender has a source of its own, so that none has to catch up with another's rows. The source writes by itself, in
transactions of thirty rows, and uses part of the machine. The lag is that of markers, rows that another session writes
twenty times a second: from the answer to a marker's COMMIT until the marker is visible.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Final, LiteralString, NamedTuple

import psycopg

from bench.contenders import Contender, has_marker
from bench.field import Field, Scale, copied, everyone, wait_for
from bench.latency import latencies, percentile
from bench.results import Measurement, PartResult
from bench.servers import Servers

#: Markers per second.
_MARKER_RATE: Final = 20

#: The lag of the second before is the early one.
_EARLY: Final = 10

#: Seconds that a contender may take after the last write.
_PATIENCE: Final = 300.0

_REST_SECONDS: Final = 3.0

#: The marker behind everything; those of the lag are numbered from 1 on.
_LAST_MARKER: Final = 0

#: Twenty updates and ten inserts in each transaction. The elapsed time decides how many transactions are due.
_PACED: Final[LiteralString] = """
CREATE PROCEDURE write_paced(rate int, seconds float, INOUT written bigint) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    elapsed float := 0;
    account_count bigint := (SELECT max(aid) FROM accounts);
    next_id bigint := (SELECT max(id) + 1 FROM events);
    picked bigint;
BEGIN
    written := 0;
    WHILE elapsed < seconds LOOP
        IF written < rate * elapsed THEN
            picked := 1 + floor(random() * (account_count - 20));
            UPDATE accounts SET abalance = abalance + 1 WHERE aid BETWEEN picked AND picked + 19;
            INSERT INTO events
            SELECT n, md5(n::text)::uuid, n % 1000 / 10.0, now(), jsonb_build_object('number', n), 'event ' || n, true
            FROM generate_series(next_id, next_id + 9) AS n;
            next_id := next_id + 10;
            written := written + 30;
            COMMIT;
        ELSE
            PERFORM pg_sleep(0.002);
        END IF;
        elapsed := extract(epoch FROM clock_timestamp() - began);
    END LOOP;
END $$;
"""


class _Written(NamedTuple):
    rows: int
    seconds: float


def sustained(servers: Servers, scale: Scale) -> Iterator[PartResult]:
    """Measure for each rate: rows written per second, and the lag after ten seconds and at the end."""
    for rate in scale.rates:
        result = PartResult(part=f"sustained, {rate:,} rows/s for {scale.seconds} s", is_timed=False)
        for _ in range(scale.repetitions):
            for name in scale.names():
                result.measurements.append(_alone(servers, replace(scale, contenders=frozenset([name])), rate))
        yield result


def _alone(servers: Servers, scale: Scale, rate: int) -> Measurement:
    mixed = scale.mixed()
    workload = replace(mixed, prepare=(*mixed.prepare, _PACED))
    with copied(servers, workload, everyone(servers, scale, workload)) as place:
        place.settle()
        (contender,) = place.contenders
        contender.start()
        wait_for(contender, contender.is_streaming)
        time.sleep(_REST_SECONDS)
        measured = _watched(place, contender, rate, scale.seconds)
        contender.stop()
        place.verify(contender)
    return measured


def _watched(place: Field, contender: Contender, rate: int, seconds: int) -> Measurement:
    before = contender.usage()
    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(_write, place.source, rate, seconds)
        lags = latencies(
            place.source, contender.destination, _LAST_MARKER + 1, rate=_MARKER_RATE, seconds=seconds, patience=_PATIENCE
        )
        written = writing.result()
    wait_for(contender, lambda: has_marker(contender.destination, _LAST_MARKER))
    after = contender.usage()
    return Measurement(
        contender=contender.name,
        seconds=written.seconds,
        amount=written.rows,
        p50_ms=percentile(lags, 50),
        p99_ms=percentile(lags, 99),
        early_lag_ms=lag_at(lags, min(_EARLY, seconds)),
        end_lag_ms=lag_at(lags, seconds),
        cpu_seconds=after.cpu_seconds - before.cpu_seconds if before is not None and after is not None else None,
        peak_rss_bytes=after and after.peak_rss_bytes,
        rss_bytes=after and after.rss_bytes,
    )


def lag_at(lags: Sequence[float], second: int) -> float:
    """Return the median of the markers in the second before."""
    return median(lags[(second - 1) * _MARKER_RATE : second * _MARKER_RATE])


def _write(url: str, rate: int, seconds: int) -> _Written:
    """The source need not wait for its disk: a marker does, and everything before it is then on disk too."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        began = time.perf_counter()
        row = connection.execute("CALL write_paced(%s, %s, NULL)", [rate, seconds]).fetchone()
        took = time.perf_counter() - began
        connection.execute("INSERT INTO marker VALUES (%s)", [_LAST_MARKER])
    assert row is not None, "a procedure with a result returns one row"
    return _Written(rows=row[0], seconds=took)

"""A pipeline may change its capture engine at any time: each continues exactly where the other was."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from tests.support.database import Database
from tests.support.items_and_notes import CREATE, TABLES, changes
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal


@pytest.mark.parametrize("first", list(Engine))
@pytest.mark.parametrize("is_confirmed", [True, False], ids=["confirmed", "repeated"])
def test_an_engine_continues_where_the_other_was(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch, first: Engine, is_confirmed: bool
) -> None:
    source.run(*CREATE)
    if not is_confirmed:
        # The slot stays where it is, so each run is sent everything again and has to know what is held.
        for stream in (DebeziumStream, PgoutputStream):
            monkeypatch.setattr(stream, "commit", lambda *_: None)
    other = next(engine for engine in Engine if engine is not first)
    for number, engine in enumerate((first, other, first)):
        config = pipeline(engine, source, [destination], *TABLES)
        source.run(*changes(10 * number + 1))
        with running(config) as worker:
            wait_until(worker, lambda worker=worker: is_streaming(worker))  # type: ignore[misc]
            source.run(*changes(10 * number + 2))
            wait_until_equal(worker, source, destination, *TABLES)
        # The first transaction of the next run comes while nobody streams.
        source.run(*changes(10 * number + 3))

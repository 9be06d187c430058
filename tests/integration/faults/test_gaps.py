"""What no stream carries is noticed while the pipeline runs and at its start, and repaired by a copy or set aside."""

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.run import source_watch
from tests.support.database import Database
from tests.support.gaps import GAPS, create_tables, make_gap
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)


@pytest.fixture
def tables(source: Database, destination: Database) -> list[str]:
    destination.run("CREATE DOMAIN lottery AS float8")
    return create_tables(source)


def make_gaps(source: Database, publication: str) -> None:
    for table in GAPS:
        make_gap(source, table, publication)


@pytest.mark.parametrize("engine", list(Engine))
def test_what_happened_beside_the_stream_is_copied_again_while_it_runs(
    engine: Engine, source: Database, destination: Database, tables: list[str]
) -> None:
    config = pipeline(engine, source, [destination], *tables)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
        make_gaps(source, config.publication_name)
        wait_until_equal(worker, source, destination, *tables)


@pytest.mark.parametrize("engine", list(Engine))
def test_what_happened_beside_the_stream_is_copied_again_at_the_next_start(
    engine: Engine, source: Database, destination: Database, tables: list[str]
) -> None:
    config = pipeline(engine, source, [destination], *tables)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
    make_gaps(source, config.publication_name)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        assert all(copied == 0 for copied in (counts.copied for counts in worker.report().tables.values()))

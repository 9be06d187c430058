"""What a run reports to Dagster: of its tables as they come, go and break, of its run, and of the stream between them."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.report import Report
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import Target, add_table
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.specs import pipeline_specs
from rosetta_dagster.orchestration.summary import SHOWN_TABLES, markdown, stream_metadata
from rosetta_dagster.orchestration.translator import RosettaTranslator
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.pipeline_job import run_while
from tests.support.rows import add_pipeline
from tests.support.waiting import eventually

#: How long anything may take, in seconds.
LIMIT = 60.0


@pytest.fixture(autouse=True)
def changes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change of the tables need not wait until changes were gathered."""
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0)


@pytest.fixture
def name(store: Store, settings: Settings, source: Database, destination: Database) -> str:
    """A pipeline of one table that is to run; its slot has to be of this test alone."""
    source.run(
        "CREATE TABLE orders (id int PRIMARY KEY)",
        "CREATE TABLE items (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT generate_series(1, 3)",
        "INSERT INTO items VALUES (1), (2)",
    )
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT', status = 'START'")
    return name


@pytest.fixture
def both(source: Database, destination: Database) -> tuple[Database, Database]:
    return source, destination


def metadata_of(instance: dg.DagsterInstance, *path: str) -> list[Mapping[str, Any]]:
    """The metadata of an asset's materializations, the newest first."""
    records = instance.fetch_materializations(dg.AssetKey(list(path)), limit=20).records
    return [record.asset_materialization.metadata for record in records if record.asset_materialization]


def stream_shows(instance: dg.DagsterInstance, name: str) -> Mapping[str, Any]:
    """The metadata of the stream's last summary; empty before the first."""
    records = instance.fetch_observations(dg.AssetKey(["rosetta", name]), limit=1).records
    found = [record.asset_observation.metadata for record in records if record.asset_observation]
    return found[0] if found else {}


def test_tables_that_are_added_and_removed_during_a_run_are_reported(
    store: Store, settings: Settings, instance: dg.DagsterInstance, name: str, both: tuple[Database, Database]
) -> None:
    source, _ = both
    orders, kept = (f"{name}_dw", "public", "orders"), (f"{name}_dw", "kept", "items")

    def operate() -> None:
        eventually(lambda: bool(metadata_of(instance, *orders)))
        add_table(store, name, TableId("public", "items"), Target("kept"))
        eventually(lambda: bool(metadata_of(instance, *kept)))
        eventually(lambda: "table_count" in (shown := stream_shows(instance, name)) and shown["table_count"].value == 2)
        with store.connected() as connection:
            connection.execute("DELETE FROM pipeline_tables WHERE table_name = 'orders'")
        eventually(lambda: "orders" not in stream_shows(instance, name)["tables"].value)
        source.run("INSERT INTO orders VALUES (4)", "INSERT INTO items VALUES (3)")
        eventually(lambda: metadata_of(instance, *kept)[0]["dagster/row_count"].value == 3)

    assert run_while(store, settings, instance, name, operate).success
    assert 1 == len(metadata_of(instance, *orders))
    (copied, changed) = metadata_of(instance, *kept)[::-1]
    assert (2, 1) == (copied["rows_copied"].value, changed["rows_inserted"].value)
    assert dg.AssetKey(["rosetta", name]) == changed["rosetta/stream"].value
    assert dg.AssetKey([f"{name}_db", "public", "items"]) == changed["rosetta/source_table"].value


def test_a_table_that_is_set_aside_shows_on_the_stream_and_in_the_health_at_once(
    store: Store, settings: Settings, instance: dg.DagsterInstance, name: str, both: tuple[Database, Database]
) -> None:
    source, destination = both
    add_table(store, name, TableId("public", "items"), Target())

    def operate() -> None:
        eventually(lambda: store.state(name).run_status == "STREAMING")
        eventually(lambda: last_health() is not None)
        # The health sensor's evaluation must not hide what the run reports after it.
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(dg.AssetKey(["rosetta", name]), "health", passed=True))
        destination.run("ALTER TABLE items ADD CONSTRAINT small CHECK (id < 100)")
        source.run("INSERT INTO items VALUES (100)", "INSERT INTO orders VALUES (4)")
        eventually(lambda: stream_shows(instance, name))
        assert 1 == stream_shows(instance, name)["tables_set_aside"].value
        shown = stream_shows(instance, name)["tables"].value.splitlines()
        assert f"| public.items → [{name.replace('_', chr(92) + '_')}" in shown[2]
        assert "| ERROR |" in shown[2]
        assert "constraint small" in shown[2]
        eventually(lambda: (last := last_health()) is not None and not last.passed)

    def last_health() -> dg.AssetCheckEvaluation | None:
        key = dg.AssetCheckKey(dg.AssetKey(["rosetta", name]), "health")
        found = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return found[0].evaluation if found else None

    result = run_while(store, settings, instance, name, operate)
    assert result.success
    # A later one would hide the results of the checks.
    assert 1 == len(metadata_of(instance, "rosetta", name))
    told = stream_shows(instance, name)
    assert result.run_id == told["run"].value
    assert 1 == told["tables_set_aside"].value

    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    tags = run.tags
    assert f"rosetta_{name}" == tags["rosetta/slot"]
    assert Lsn.parse(tags["rosetta/start_lsn"]) < Lsn.parse(tags["rosetta/end_lsn"])


def test_the_summary_keeps_to_its_cells_and_its_length(store: Store, settings: Settings, name: str) -> None:
    for number in range(SHOWN_TABLES + 4):
        add_table(store, name, TableId("odd|space", f"t{number} *`[x](y)"), Target())
    with store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET state = 'ERROR', error = E'a | b\nc' WHERE table_name LIKE 't7 %'")
    specs = pipeline_specs(store.shape(name), RosettaTranslator())
    found = stream_metadata(specs, store.tables(name), Report())
    lines = str(found["tables"].value).splitlines()
    assert r"odd\|space.t7 \*\`\[x\](y)" in lines[2]
    assert r"a \| b c |" in lines[2]
    assert "… and 5 more tables." == lines[-1]
    assert 1 == found["tables_set_aside"].value
    assert markdown(specs, []).count("\n") == 1

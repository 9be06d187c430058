"""Options that SQL changes are taken up by a running pipeline within seconds, without REFRESH."""

import pytest

from rosetta_dagster.cdc.store.database import Store
from tests.support.database import Database
from tests.support.supervised import Run
from tests.support.waiting import eventually


def test_the_policy_for_schema_changes_is_taken_up_while_the_run_goes_on(
    own_store: Store, name: str, source: Database
) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING" and bool(walsenders(source)))
    before = walsenders(source)
    with own_store.connected() as connection:
        connection.execute("UPDATE pipelines SET on_schema_change = 'STOP_TABLE'")
    # The engine restarts, which only its walsender shows.
    eventually(lambda: walsenders(source) not in ([], before))
    source.run("ALTER TABLE items ADD COLUMN more text", "INSERT INTO items VALUES (2, 'x')")
    error = run.wait()
    assert error is not None
    assert "was added" in str(error)


def walsenders(source: Database) -> list[tuple[int]]:
    return source.rows(
        "SELECT active_pid FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL"
    )


@pytest.mark.parametrize(
    "change",
    [
        "on_gap = 'STOP_TABLE'",
        "on_partition_drop = 'KEEP'",
        "types = 'TEXT'",
        "on_slot_limit = 'PAUSE'",
        "engine = 'PGOUTPUT'",
    ],
)
def test_every_option_reaches_the_config_of_the_run(own_store: Store, name: str, change: str) -> None:
    column, value = change.split(" = ")
    with own_store.connected() as connection:
        connection.execute("UPDATE pipelines SET " + change)
    assert value.strip("'") == getattr(own_store.pipeline(name), column)
    options = own_store.pipeline_options(own_store.state(name).id)
    assert options is not None
    assert value.strip("'") == getattr(options, column)


def test_an_option_of_a_table_is_taken_up_as_well(own_store: Store, name: str) -> None:
    pipeline = own_store.pipeline(name)
    with own_store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET comments = false")
    assert [True] == [table.comments for table in pipeline.tables]
    assert [False] == [table.comments for table in own_store.table_configs(pipeline.id)]

"""The jobs that administer pipelines: what they do to the rows and the source, and how they refuse."""

from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, Status
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.errors import PipelineNotFound
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import TableShape
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import KeyPair
from rosetta_dagster.embedded.snowflake.key_pair import fingerprint as key_fingerprint
from rosetta_dagster.embedded.snowflake.key_pair import load_public_key
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.location import Location
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.pipelines import is_streaming, running, wait_until
from tests.support.rows import add_pipeline

PASSWORD = "a planted secret"

STREAMS = {"shop": dg.AssetKey(["rosetta", "shop"])}


def ran(instance: dg.DagsterInstance, job: str, /, **config: Any) -> dict[str, str]:
    """What the job told."""
    result = executed(instance, job, config)
    assert result.success
    outputs = [event.step_output_data for event in result.all_events if event.is_successful_output]
    return {label: str(value.value) for label, value in outputs[0].metadata.items()}


def failure(instance: dg.DagsterInstance, job: str, /, **config: Any) -> str:
    """Why the job failed."""
    result = executed(instance, job, config)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None, "a failure that nobody expected"
    return f"{data.description} {data.metadata['remedy'].value}"


def executed(instance: dg.DagsterInstance, name: str, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    (job,) = [job for job in administration_jobs(STREAMS) if job.name == f"rosetta__{name}"]
    return job.execute_in_process({"ops": {name: {"config": config}}}, instance=instance, raise_on_error=False)


@pytest.fixture
def both(source: Database, destination: Database) -> tuple[Database, Database]:
    return source, destination


@pytest.fixture
def planted(source: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database whose password stands in a variable of the environment, and is a text to look for."""
    monkeypatch.setenv("ROSETTA_SECRET_PLANTED", PASSWORD)
    return source


@pytest.fixture
def shop(store: Store, settings: Settings, source: Database, destination: Database) -> None:
    add_pipeline(store, "shop", source, destination, "orders")


def reached(database: Database) -> dict[str, Any]:
    return {
        **database.connection.model_dump(exclude={"password"}, exclude_none=True),
        "password_env": "ROSETTA_SECRET_PLANTED",
    }


def test_a_pipeline_is_made_from_nothing_and_no_secret_reaches_dagster(
    store: Store, settings: Settings, instance: dg.DagsterInstance, planted: Database
) -> None:
    source = destination = planted
    ran(instance, "create_source", name="db", **reached(source))
    ran(instance, "create_destination", name="dw", postgres={**reached(destination), "namespace": "kept"})
    tables = [{"table": "orders"}, {"table": "Sales.items", "target_name": "sold"}]
    told = ran(instance, "create_pipeline", name="shop", source="db", destinations=["dw"], tables=tables, engine="PGOUTPUT")
    assert {"created": "pipeline shop: 2 tables, PAUSE"} == told

    config = store.pipeline("shop")
    assert config.source.connection.password is not None
    assert PASSWORD == config.source.connection.password.get_secret_value()
    assert (PASSWORD, "kept") == (config.destinations[0].config["password"], config.destinations[0].config["schema"])
    assert {
        TableShape(id=TableId("public", "orders")),
        TableShape(id=TableId("Sales", "items"), target_name="sold"),
    } == set(store.shapes()[0].tables)
    for run in instance.get_runs():
        events = [str(record.event_log_entry) for record in instance.get_records_for_run(run.run_id).records]
        assert PASSWORD not in str(run) + "".join(events)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> KeyPair:
    """A key pair whose private half stands in the environment."""
    pair = KeyPair.generate()
    monkeypatch.setenv("ROSETTA_SECRET_DW_KEY", pair.private_key)
    monkeypatch.setenv("ROSETTA_SECRET_DW_PASSPHRASE", pair.passphrase)
    return pair


def reached_at_snowflake(**changed: Any) -> dict[str, Any]:
    variables = {"private_key_env": "ROSETTA_SECRET_DW_KEY", "private_key_passphrase_env": "ROSETTA_SECRET_DW_PASSPHRASE"}
    return {"account": "myorg-dw", "user": "rosetta", "database": "ANALYTICS", **variables, **changed}


def test_a_snowflake_destination_is_made_and_its_key_does_not_reach_dagster(
    store: Store, settings: Settings, instance: dg.DagsterInstance, config_database: Database, account: KeyPair
) -> None:
    where = reached_at_snowflake(warehouse="LOADING", namespace="kept", deletes="soft", flush_seconds=5.0)
    told = ran(instance, "create_destination", name="sf", snowflake=where)
    fingerprint = key_fingerprint(load_public_key(account.public_key))
    assert {"created": f"destination sf: rosetta@myorg-dw/ANALYTICS, key {fingerprint}"} == told
    row = store.destination("sf")
    kept = {"private_key": account.private_key, "private_key_passphrase": account.passphrase}
    assert ("SNOWFLAKE", kept) == (row.type, {field: row.config[field] for field in kept})
    assert ("LOADING", "kept", "soft", 5.0) == tuple(
        row.config[field] for field in ("warehouse", "schema", "deletes", "flush_seconds")
    )
    assert account.passphrase not in str(config_database.rows("SELECT config FROM destinations"))
    shown = [str(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    for secret in (account.passphrase, account.private_key.splitlines()[3]):
        assert secret not in str(instance.get_runs()) + "".join(shown)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "Give either postgres or snowflake"),
        ({"snowflake": reached_at_snowflake(), "postgres": {"host": "h", "database": "d", "username": "u"}}, "either"),
        (
            {"snowflake": reached_at_snowflake(private_key_env="ROSETTA_SECRET_ABSENT")},
            "ROSETTA_SECRET_ABSENT is not set, which holds the private key",
        ),
        (
            {"snowflake": reached_at_snowflake(private_key_passphrase_env="ROSETTA_SECRET_DW_KEY")},
            "passphrase is wrong",
        ),
        ({"snowflake": reached_at_snowflake(account="not an account")}, "account"),
    ],
    ids=["neither", "both", "no variable", "another passphrase", "a wrong account"],
)
def test_a_snowflake_destination_that_cannot_work_is_not_made(
    store: Store, instance: dg.DagsterInstance, account: KeyPair, where: dict[str, Any], message: str
) -> None:
    told = failure(instance, "create_destination", name="sf", **where)
    assert message in told
    assert account.passphrase not in told
    with pytest.raises(PipelineNotFound):
        store.destination("sf")


def test_a_status_is_set_and_a_table_added(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    assert {"status": "PAUSE -> START"} == ran(instance, "set_status", pipeline="shop", status="START")
    told = ran(instance, "add_table", pipeline="shop", table="customers", target_namespace="kept")
    assert {"added": "table public.customers to pipeline shop"} == told
    assert Status.START is store.status("shop")
    assert TableShape(id=TableId("public", "customers"), target_namespace="kept") in store.shapes()[0].tables
    selected = {"table": "users", "exclude": ["ssn", "a, b"], "where": "tenant = 7"}
    ran(instance, "add_table", pipeline="shop", **selected)
    wanted = Selection(exclude=("ssn", "a, b"), where="tenant = 7")
    assert {TableId("public", "users"): wanted} == store.pipeline("shop").selections
    both = failure(instance, "add_table", pipeline="shop", table="items", columns=["id"], exclude=["ssn"])
    assert "columns and exclude cannot both be given" in both
    assert "has the table public.customers already" in failure(instance, "add_table", pipeline="shop", table="customers")


def test_a_table_can_be_resynced(store: Store, settings: Settings, instance: dg.DagsterInstance, shop: None) -> None:
    told = ran(instance, "resync_table", pipeline="shop", table="orders")
    assert {"resync": "table public.orders of pipeline shop is copied again when it starts next"} == told
    assert [True] == [table.resync for table in store.table_configs(store.state("shop").id)]
    assert "no pipeline shop with a table public.absent" in failure(
        instance, "resync_table", pipeline="shop", table="absent"
    )


def test_a_pipeline_is_made_with_its_thresholds_and_its_policy(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: None
) -> None:
    more = {"thresholds": {"wal_warning_bytes": 7, "row_count_tolerance": 0.5}, "on_schema_change": "STOP_TABLE"}
    common = {"source": "shop_db", "destinations": ["shop_dw"], "tables": [{"table": "items"}]}
    ran(instance, "create_pipeline", name="strict", **common, **more)
    assert more["thresholds"] == store.thresholds("strict")
    assert SchemaPolicy.STOP_TABLE is store.pipeline("strict").on_schema_change
    wrong = failure(instance, "create_pipeline", name="wrong", **common, thresholds={"row_count_tolerance": 2.0})
    assert "row_count_tolerance" in wrong


def test_what_is_dropped_is_shown_first_and_goes_only_when_confirmed(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    slot = f"rosetta_{source.connection.database}"
    source.run(
        "CREATE TABLE orders (id int PRIMARY KEY)",
        f"CREATE PUBLICATION {slot} FOR TABLE orders",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')",
        "CREATE PUBLICATION others FOR TABLE orders",
    )
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders")
    left = (
        f"SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = '{slot}'"
        " UNION ALL SELECT pubname::text FROM pg_publication"
    )

    told = ran(instance, "drop_pipeline", pipeline=name)
    assert all(part in told["would remove"] for part in (f"slot {slot}", f"publication {slot}", "bytes of WAL", "pipelines"))
    assert {(slot,), ("others",)} == set(source.rows(left))
    assert 3 == len(source.rows(left))
    assert store.status(name) is Status.PAUSE

    store.set_status(name, Status.START)
    assert "is not paused: its status is START. Pause it" in failure(instance, "drop_pipeline", pipeline=name, confirm=True)
    store.set_status(name, Status.PAUSE)
    with store.lease(store.state(name).id):
        assert "Another run has this pipeline" in failure(instance, "drop_pipeline", pipeline=name, confirm=True)
    assert 3 == len(source.rows(left))

    ran(instance, "drop_pipeline", pipeline=name, confirm=True)
    assert [("others",)] == source.rows(left)
    assert store.status(name) is None
    assert store.source(f"{name}_db").connection == source.connection


def test_a_publication_that_an_operator_named_stays(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE orders (id int PRIMARY KEY)", "CREATE PUBLICATION rosetta_others FOR TABLE orders")
    add_pipeline(store, "shop", source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET publication_name = 'rosetta_others'")
    assert "publication" not in ran(instance, "drop_pipeline", pipeline="shop", confirm=True)["removed"]
    assert [("rosetta_others",)] == source.rows("SELECT pubname::text FROM pg_publication")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("job", "config", "message"),
    [
        ("create_source", {"name": "a", "host": "h", "database": "d", "username": "u", "port": 70_000}, "port"),
        (
            "create_source",
            {"name": "a", "host": "h", "database": "d", "username": "u", "password_env": "ROSETTA_SECRET_ABSENT"},
            "ROSETTA_SECRET_ABSENT",
        ),
        ("create_source", {"name": "shop_db", "host": "h", "database": "d", "username": "u"}, "is a source shop_db already"),
        ("create_pipeline", {"name": "_x", "source": "a", "destinations": ["b"], "tables": [{"table": "t"}]}, "name"),
        ("create_pipeline", {"name": "x", "source": "a", "destinations": ["b"], "tables": []}, "tables"),
        (
            "create_pipeline",
            {"name": "x", "source": "no", "destinations": ["b"], "tables": [{"table": "t"}]},
            "no source no",
        ),
        ("set_status", {"pipeline": "absent", "status": "PAUSE"}, "no pipeline absent"),
        ("add_table", {"pipeline": "absent", "table": "t"}, "no pipeline absent"),
        ("drop_pipeline", {"pipeline": "absent", "confirm": True}, "no pipeline absent"),
    ],
)
def test_an_error_is_reported_in_one_sentence(
    store: Store, instance: dg.DagsterInstance, job: str, config: dict[str, Any], message: str
) -> None:
    told = failure(instance, job, **config)
    assert message in told
    assert "Traceback" not in told
    assert 1 == len(store.shapes())


def test_a_wrong_status_is_refused_before_a_run_begins(instance: dg.DagsterInstance, settings: Settings) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="status"):
        executed(instance, "set_status", {"pipeline": "shop", "status": "STOP"})


def test_rows_are_reconciled_and_repaired_and_the_check_is_evaluated(
    store: Store, settings: Settings, instance: dg.DagsterInstance, both: tuple[Database, Database]
) -> None:
    source, destination = both
    source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 9)")
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT'")
    with running(store.pipeline(name)) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        destination.run("DELETE FROM orders WHERE id IN (3, 4)")
        key = dg.AssetCheckKey(dg.AssetKey(["rosetta", name]), "reconciliation")
        job = build(store.shapes(), settings).resolve_implicit_global_asset_job_def()
        result = job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(instance=instance)
        (check,) = result.get_asset_check_evaluations()
        assert (False, dg.AssetCheckSeverity.ERROR) == (check.passed, check.severity)
        assert f"public.orders at {name}_dw: (3) missing, (4) missing" == check.description

        reconcile_job = build(store.shapes(), settings).resolve_job_def("rosetta__reconcile")
        config = {"ops": {"reconcile": {"config": {"pipeline": name, "tables": ["orders"], "repair": True}}}}
        mended = reconcile_job.execute_in_process(config, instance=instance)
        (output,) = [event.step_output_data for event in mended.all_events if event.is_successful_output]
        assert "2 repaired; differing: none" in str(output.metadata[f"public.orders at {name}_dw"].value)
        (check,) = mended.get_asset_check_evaluations()
        assert check.passed
    assert [(9,)] == destination.rows("SELECT count(*) FROM orders")


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("variable", ["SECRET_KEY", "CONFIG_DATABASE_URL", "DAGSTER_PG_PASSWORD", "HOME_OF_ANOTHER"])
def test_a_job_reads_no_variable_that_is_not_set_aside_for_it(
    store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", PASSWORD)
    monkeypatch.setenv("HOME_OF_ANOTHER", PASSWORD)
    place = {"host": "evil.example.com", "database": "d", "username": "u"}
    key = {"private_key_env": variable, "private_key_passphrase_env": "ROSETTA_SECRET_P"}
    account = {"account": "evil-dw", "user": "u", "database": "D", **key}
    for told in (
        failure(instance, "create_source", name="s", **place, password_env=variable),
        failure(instance, "create_destination", name="d", postgres={**place, "password_env": variable}),
        failure(instance, "create_destination", name="d", snowflake=account),
    ):
        assert f"variable {variable} is one of" in told or f"may not name the variable {variable}" in told
        assert PASSWORD not in told
    with pytest.raises(PipelineNotFound):
        store.source("s")
    with pytest.raises(PipelineNotFound):
        store.destination("d")


def test_without_administration_there_are_only_the_jobs_of_the_pipelines(
    store: Store, settings: Settings, shop: None
) -> None:
    names = {
        wanted: {
            job.name
            for job in build(store.shapes(), settings, location=Location(administration=wanted)).resolve_all_job_defs()
        }
        for wanted in (True, False)
    }
    gone = names[True] - names[False]
    assert gone == {job.name for job in administration_jobs({})}
    assert "rosetta_shop" in names[False]
    assert not [name for name in names[False] if name.startswith("rosetta__")]

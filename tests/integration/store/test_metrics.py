"""What the exporter serves: every figure of real pipelines, nothing old, no secret; and who may break it, cannot."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store import measurements
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.session import StoreSession
from rosetta_dagster.metrics import exporter as exporting
from rosetta_dagster.metrics.exporter import Exporter
from rosetta_dagster.metrics.server import MetricsServer
from tests.support.database import Database, end_connections
from tests.support.rows import Add
from tests.support.supervised import Run, put_rows
from tests.support.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def serving(store: Store) -> Iterator[MetricsServer]:
    with MetricsServer(("127.0.0.1", 0), Exporter(store)) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsServer]:
    monkeypatch.setattr(exporting, "FRESH_SECONDS", 0.0)
    with serving(store) as running:
        yield running


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_every_figure_of_a_pipeline_that_streams(
    store: Store, source: Database, destination: Database, server: MetricsServer
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY, n int)", "INSERT INTO items VALUES (1, 1), (2, 2)")
    name = put_rows(store, source, destination)
    run = Run(store, name)
    table = {"pipeline": name, "namespace": "public", "table": "items"}
    eventually(lambda: store.state(name).run_status == "STREAMING")
    source.run("INSERT INTO items VALUES (3, 3)", "UPDATE items SET n = 0", "DELETE FROM items WHERE id = 1")

    def scraped() -> Samples:
        return samples(get(server.server_port, "/metrics")[1])

    eventually(lambda: of(scraped(), "rosetta_rows_total", **table, operation="delete") == 1)
    found = scraped()
    rows = {operation: of(found, "rosetta_rows_total", **table, operation=operation) for operation in ("copy", "insert")}
    assert {"copy": 2, "insert": 1} == rows
    assert 3 == of(found, "rosetta_rows_total", **table, operation="update")
    assert 1 == of(found, "rosetta_run_status", pipeline=name, status="STREAMING")
    assert 1 == of(found, "rosetta_wanted_status", pipeline=name, status="START")
    assert 1 == of(found, "rosetta_tables", pipeline=name, state="STREAMING")
    assert 0 == of(found, "rosetta_table_set_aside", **table)
    assert 0 == of(found, "rosetta_failed_runs_total", pipeline=name)
    for figure in ("heartbeat_age_seconds", "lag_seconds", "last_success_age_seconds"):
        assert 0 <= (of(found, f"rosetta_{figure}", pipeline=name) or 0.0) < 60
    batches = of(found, "rosetta_batches_total", pipeline=name)
    assert batches is not None
    assert batches >= 1
    assert (of(found, "rosetta_batch_apply_seconds_total", pipeline=name) or 0.0) > 0
    store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_slot_shows_how_long_it_lasts(store: Store, add: Add, server: MetricsServer) -> None:
    pipeline_id = add("shop")
    reading = SlotReading(True, "reserved", Lsn(256), 1000, 10, 5000, Lsn(266))
    store.report_slot(pipeline_id, "rosetta_shop", reading, 50.0)
    found = samples(get(server.server_port, "/metrics")[1])
    expected = {
        "rosetta_slot_retained_bytes": 1000, "rosetta_lag_bytes": 10, "rosetta_slot_safe_bytes": 5000,
        "rosetta_slot_growth_bytes_per_second": 50, "rosetta_slot_seconds_until_lost": 100,
    }  # fmt: skip
    assert expected == {figure: of(found, figure, pipeline="shop") for figure in expected}
    assert None is of(found, "rosetta_heartbeat_age_seconds", pipeline="shop"), "what is not known has no sample"


def test_failed_runs_are_counted_though_the_wait_ends(store: Store, add: Add, server: MetricsServer) -> None:
    pipeline_id = add("shop")
    for _ in range(2):
        store.report_failure(pipeline_id, None, "wrong", transient=True)
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET status = 'START'")
    found = samples(get(server.server_port, "/metrics")[1])
    assert (2, 0) == (
        of(found, "rosetta_failed_runs_total", pipeline="shop"), of(found, "rosetta_failed_attempts", pipeline="shop")
    )  # fmt: skip


def test_health_follows_the_pipelines_and_readiness_the_database(
    store: Store, add: Add, server: MetricsServer, config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("shop")
    port = server.server_port
    assert (200, {"status": "READY", "pipelines": 1}) == (get(port, "/ready")[0], json.loads(get(port, "/ready")[1]))
    assert 200 == get(port, "/health/pipelines")[0]
    # A pipeline whose processes are all gone.
    config_database.run(
        "ALTER TABLE pipelines DISABLE TRIGGER touch",
        "UPDATE pipelines SET status = 'START', updated_at = now() - interval '1 hour'",
        "UPDATE pipeline_metadata SET status = 'STREAMING', heartbeat_at = now() - interval '1 hour'",
    )
    assert (503, '{"pipelines":{"shop":"ERROR"}}') == get(port, "/health/pipelines")

    away = Store(SecretStr("postgresql://u:a-planted-secret@127.0.0.1:1/config"))
    with serving(away) as without_database:
        port = without_database.server_port
        assert 200 == get(port, "/health")[0], "a restart of the exporter would fix nothing"
        assert (503, '{"status":"UNAVAILABLE","error":"StoreUnavailable"}') == get(port, "/ready")
        assert 503 == get(port, "/health/pipelines")[0]
        status, text = get(port, "/metrics")
        assert (200, 0) == (status, of(samples(text), "rosetta_config_database_up"))
        assert "shop" not in text


def test_nothing_old_is_served_while_the_database_is_away(
    store: Store, add: Add, server: MetricsServer, config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("shop")
    port = server.server_port
    assert '{pipeline="shop"' in get(port, "/metrics")[1]
    with monkeypatch.context() as away:
        away.setattr(store, "_database_url", SecretStr("postgresql://u:p@127.0.0.1:1/config"))
        end_connections(config_database)
        eventually(lambda: get(port, "/ready")[0] == 503)
        assert "shop" not in get(port, "/metrics")[1]
    eventually(lambda: get(port, "/ready")[0] == 200)
    assert '{pipeline="shop"' in get(port, "/metrics")[1]


def test_no_secret_and_no_error_text_is_served(
    store: Store, add: Add, server: MetricsServer, config_database: Database
) -> None:
    pipeline_id = add("shop")
    store.report_failure(pipeline_id, None, "a planted text of an error", transient=True)
    config_database.run("UPDATE sources SET pg_password = 'a planted secret'")
    served = "".join(get(server.server_port, path)[1] for path in ("/metrics", "/health/pipelines", "/ready", "/nothing"))
    assert "shop" in served
    assert "planted" not in served


def test_names_forge_no_sample(store: Store, add: Add, server: MetricsServer, config_database: Database) -> None:
    add("shop")
    forged = '"} 0\nrosetta_config_database_up 0\n#'
    with config_database.connect() as connection:
        connection.execute("UPDATE pipeline_tables SET table_name = %s", [forged])
    status, text = get(server.server_port, "/metrics")
    assert 200 == status
    assert 1 == of(samples(text), "rosetta_config_database_up")
    assert [] == re.findall(r"^rosetta_config_database_up 0", text, re.MULTILINE)
    assert 0 == of(samples(text), "rosetta_table_set_aside", pipeline="shop", namespace="public", table=forged)


def test_many_clients_cost_the_database_one_query_a_second(store: Store, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add("shop")
    monkeypatch.setattr(exporting, "FRESH_SECONDS", 60.0)
    reads: list[StoreSession] = []

    def counted(read: StoreSession) -> measurements.Measurements:
        reads.append(read)
        return measurements.read_measurements(read)

    monkeypatch.setattr(exporting, "read_measurements", counted)
    with serving(store) as server:
        clients = [threading.Thread(target=get, args=[server.server_port, "/metrics"]) for _ in range(20)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert [store] == reads


def test_a_client_that_says_nothing_keeps_nobody_waiting(server: MetricsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)):
        began_at = time.monotonic()
        assert 200 == get(server.server_port, "/health")[0]
    assert time.monotonic() - began_at < 5
    assert 404 == get(server.server_port, "/metrics/../../etc/passwd")[0]


def test_the_command_serves_without_the_key_of_secrets_and_ends_on_sigterm(
    store: Store, add: Add, config_database: Database
) -> None:
    add("shop")
    environment = {"CONFIG_DATABASE_URL": config_database.url, "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "rosetta_dagster", "serve-metrics", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = int(re.findall(r"http://127.0.0.1:(\d+)/metrics", said)[0])
        assert '{pipeline="shop"' in get(port, "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(20)

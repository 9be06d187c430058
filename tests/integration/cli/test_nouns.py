"""The commands of `rosetta`, by noun: what each shows and changes, for people, in JSON, and in a narrow terminal."""

import json
import time
from typing import Any

import pytest
import yaml

from rosetta_dagster.cdc.config.pipeline import Status, TableState
from rosetta_dagster.cdc.operate.status import read_status
from rosetta_dagster.cdc.reconcile.comparison import Comparison, Difference, Kind
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import Progress, TableProgress
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.status import status_lines
from tests.support.command_line import Rosetta, assert_one_line
from tests.support.database import Database

ORDERS = TableId("public", "orders")


def stream(store: Store, **changes: Any) -> None:
    """Let the pipeline look as one that streams."""
    pipeline_id = store.state("shop").id
    store.set_status("shop", Status.START)
    store.report_started(pipeline_id, "run")
    table = TableProgress(state=TableState.STREAMING, error=None, copied=3, applied=4, last_change_at=None)
    values: dict[str, Any] = {
        "run_status": "STREAMING", "applied_lsn": None, "lag_seconds": 0.25, "success_age": 1.0, "tables": {ORDERS: table},
    }  # fmt: skip
    store.report_progress(pipeline_id, "run", Progress(**{**values, **changes}))


def test_the_version_is_that_of_the_package(rosetta: Rosetta) -> None:
    result = rosetta("--version")
    assert (0, "") == (result.code, result.err)
    assert result.out.startswith("rosetta 0.") or result.out.startswith("rosetta 1.")


class TestStatus:
    def test_a_pipeline_that_streams_is_shown_with_its_tables(self, rosetta: Rosetta, shop: Database, store: Store) -> None:
        stream(store)
        result = rosetta("status", "shop")
        assert (0, "") == (result.code, result.err)
        for part in ("STREAMING", "HEALTHY", "0.25 s", "public.orders"):
            assert part in result.out
        assert 0 == rosetta("status", "--check").code

    def test_the_lag_of_a_run_that_has_ended_is_not_shown(
        self, rosetta: Rosetta, shop: Database, store: Store, config_database: Database
    ) -> None:
        stream(store)
        store.report_stopped(store.state("shop").id, "run")
        for command in ("status", "pipelines"):
            assert "0.25 s" not in rosetta(command).out
            assert json.loads(rosetta(command, "--json").out)[0]["lag_seconds"] is None

    def test_what_keeps_a_pipeline_from_running_is_said_and_fails_the_check(
        self, rosetta: Rosetta, shop: Database, store: Store, config_database: Database
    ) -> None:
        store.set_status("shop", Status.START)
        assert "shop: No run has started yet. Dagster's daemon starts one: is it running?" in rosetta("pipelines").out
        assert 0 == rosetta("status", "--check").code, "it was started less than a minute ago"
        stream(store)
        config_database.run(
            "UPDATE pipeline_metadata SET heartbeat_at = clock_timestamp() - interval '2 minutes'",
            "ALTER TABLE pipelines DISABLE TRIGGER touch",
            "UPDATE pipelines SET updated_at = clock_timestamp() - interval '2 minutes'",
        )
        result = rosetta("status", "--check")
        assert 1 == result.code
        assert "ERROR" in result.out
        assert "shop: Its run has been silent for 120 s: its process is gone." in result.out

    def test_a_failure_is_shown_with_the_time_of_the_next_attempt(
        self, rosetta: Rosetta, shop: Database, store: Store
    ) -> None:
        store.set_status("shop", Status.START)
        store.report_failure(store.state("shop").id, None, "Role app may not replicate.", transient=False)
        result = rosetta("status")
        assert "shop: Role app may not replicate. Next attempt in 10 min " in result.out

    def test_a_warning_comes_with_its_reason(
        self, rosetta: Rosetta, shop: Database, store: Store, config_database: Database
    ) -> None:
        stream(store)
        config_database.run(
            "UPDATE pipeline_metadata SET reported_health = 'WARNING', wal_size = 2000 * 1048576",
        )
        assert "shop: Its replication slot retains 2,000 MiB of WAL." in rosetta("pipelines").out
        config_database.run("UPDATE pipeline_tables SET state = 'ERROR', error = 'Column a was dropped.'")
        assert "1 of 1 tables are set aside; resync them. public.orders: Column a was dropped." in rosetta("status").out

    def test_json_holds_state_tables_and_explanation(self, rosetta: Rosetta, shop: Database, store: Store) -> None:
        stream(store)
        (found,) = json.loads(rosetta("status", "shop", "--json").out)
        assert ("shop", "STREAMING", 0.25, None) == (
            found["name"], found["run_status"], found["lag_seconds"], found["explanation"],
        )  # fmt: skip
        assert [("public.orders", "STREAMING", 3)] == [
            (table["id"], table["state"], table["rows_copied"]) for table in found["tables"]
        ]

    @pytest.mark.parametrize("width", [60, 250])
    def test_no_line_of_the_figures_is_longer_than_the_terminal(
        self, rosetta: Rosetta, shop: Database, store: Store, width: int
    ) -> None:
        stream(store)
        lines = status_lines(read_status(store, "shop"), width, with_tables=True)
        assert all(len(line) <= width for line in lines)
        assert any("STREAMING" in line for line in lines)
        assert not any("…" in line for line in lines)

    def test_the_watch_shows_rates_until_ctrl_c(
        self, rosetta: Rosetta, shop: Database, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream(store)
        pauses = iter([True, True])

        def sleep(_: float) -> None:
            if next(pauses, None) is None:
                raise KeyboardInterrupt
            stream(store)

        monkeypatch.setattr(time, "sleep", sleep)
        result = rosetta("status", "--watch")
        assert (0, "") == (result.code, result.err)
        assert 2 == result.out.count("rows/s")


class TestEnds:
    def test_sources_and_destinations_are_listed_and_shown_without_secrets(
        self, rosetta: Rosetta, shop: Database, destination: Database
    ) -> None:
        for end, name in (("source", "shop"), ("destination", "dw")):
            for arguments in ((end, "list"), (end, "show", name), (end, "list", "--json"), (end, "show", name, "--json")):
                result = rosetta(*arguments)
                assert (0, "") == (result.code, result.err)
                assert name in result.out
                assert shop.config["password"] not in result.out
                assert "enc:" not in result.out
        assert "(set)" in rosetta("source", "show", "shop").out
        assert ["shop"] == json.loads(rosetta("destination", "show", "dw", "--json").out)["pipelines"]

    def test_one_that_is_used_is_not_deleted_and_one_that_is_not_is(
        self, rosetta: Rosetta, shop: Database, config_database: Database
    ) -> None:
        for end, name in (("source", "shop"), ("destination", "dw")):
            assert_one_line(rosetta(end, "rm", name, "--yes"), f"The {end} {name} is used by shop.")
        config_database.run("DELETE FROM pipelines")
        for end, name in (("source", "shop"), ("destination", "dw")):
            assert (0, f"deleted {end} {name}\n", "") == rosetta(end, "rm", name, "--yes")
            assert_one_line(rosetta(end, "show", name), f"There is no {end} {name}.")
            assert f"No {end}s." in rosetta(end, "list").out

    def test_the_tables_of_a_source_are_listed_with_the_obstacles_to_replication(
        self, rosetta: Rosetta, shop: Database
    ) -> None:
        shop.run(
            "CREATE TABLE keyless (a integer)",
            "CREATE TABLE whole (a integer)", "ALTER TABLE whole REPLICA IDENTITY FULL",
            "CREATE UNLOGGED TABLE unlogged (a integer PRIMARY KEY)",
            "CREATE VIEW seen AS SELECT 1 AS a",
            "CREATE TABLE parts (a integer, b integer, PRIMARY KEY (b, a)) PARTITION BY RANGE (a)",
            "CREATE TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (9)",
        )  # fmt: skip
        found = {table["id"]: table for table in json.loads(rosetta("source", "tables", "shop", "--json").out)}
        assert {
            "public.orders": (True, ["id"]), "public.keyless": (True, []), "public.whole": (True, []),
            "public.unlogged": (False, ["a"]), "public.seen": (False, []), "public.parts": (True, ["b", "a"]),
        } == {name: (table["is_replicable"], table["key"]) for name, table in found.items()}  # fmt: skip
        assert "" == found["public.orders"]["remark"] == found["public.whole"]["remark"] == found["public.parts"]["remark"]
        assert "inserts only" in found["public.keyless"]["remark"]
        assert "a view" in found["public.seen"]["remark"]
        assert "public.unlogged" in rosetta("source", "tables", "shop").out
        assert found["public.orders"]["row_count"] is None, "no estimate is not an estimate of zero"
        shop.run("ANALYZE orders")
        assert "~0" in rosetta("source", "tables", "shop").out


class TestTables:
    def test_tables_are_added_taken_out_and_copied_again(
        self, rosetta: Rosetta, shop: Database, store: Store, config_database: Database
    ) -> None:
        assert (0, "added public.items of shop: copied when it starts: rosetta start shop\n", "") == rosetta(
            "table", "add", "shop", "items"
        )
        assert_one_line(rosetta("table", "add", "shop", "items"), "has the table public.items already")
        assert 0 == rosetta("table", "resync", "shop", "public.orders").code
        assert [("items", False), ("orders", True)] == config_database.rows(
            "SELECT table_name, resync FROM pipeline_tables ORDER BY 1"
        )
        assert "paused public.orders of shop: not replicated" in rosetta("table", "pause", "shop", "public.orders").out
        assert "PAUSED" in rosetta("status", "shop").out
        assert 0 == rosetta("table", "resume", "shop", "public.orders").code
        assert_one_line(rosetta("table", "pause", "shop", "ghost"), "no pipeline shop with a table public.ghost")
        removed = rosetta("table", "rm", "shop", "items", "--json")
        assert {"pipeline": "shop", "action": "removed", "tables": ["public.items"], "status": "PAUSE"} == json.loads(
            removed.out
        )
        assert_one_line(rosetta("table", "rm", "shop", "items"), "has no table public.items")
        assert_one_line(rosetta("table", "rm", "ghost", "items"), "There is no pipeline ghost")


class TestPipelines:
    def test_pipelines_are_listed_and_shown(self, rosetta: Rosetta, shop: Database) -> None:
        listed, shown = rosetta("pipeline", "list"), rosetta("pipeline", "show", "shop")
        assert (0, 0) == (listed.code, shown.code)
        for part in ("shop", "dw", "DEBEZIUM", "PAUSE"):
            assert part in listed.out
            assert part in shown.out
        assert "public.orders" in shown.out
        assert "DEBEZIUM" == json.loads(rosetta("pipeline", "show", "shop", "--json").out)["engine"]

    @pytest.mark.parametrize("command", [("drop",), ("pipeline", "rm")])
    def test_a_pipeline_is_dropped_only_when_that_is_confirmed(
        self, rosetta: Rosetta, shop: Database, config_database: Database, command: tuple[str, ...]
    ) -> None:
        config_database.run(f"UPDATE pipelines SET replication_name = '{shop.connection.database}'")
        shown = rosetta(*command, "shop")
        assert (0, "") == (shown.code, shown.err)
        assert "removed by --yes, nothing yet:" in shown.out
        assert [("shop",)] == config_database.rows("SELECT name FROM pipelines")
        config_database.run("UPDATE pipelines SET status = 'START'")
        assert_one_line(rosetta(*command, "shop", "--yes"), "is not paused", "rosetta pause shop")
        config_database.run("UPDATE pipelines SET status = 'PAUSE'")
        assert 0 == rosetta(*command, "shop", "--yes").code
        assert [] == config_database.rows("SELECT name FROM pipelines")

    def test_the_rows_are_exported_without_secrets(self, rosetta: Rosetta, shop: Database) -> None:
        result = rosetta("export")
        assert shop.config["password"] not in result.out
        document = yaml.safe_load(result.out)
        assert document == json.loads(rosetta("export", "--json").out)
        assert [{"table": "public.orders"}] == document["pipelines"]["shop"]["tables"]
        assert {"password": "ROSETTA_SECRET_SOURCE_SHOP_PASSWORD"} == document["sources"]["shop"]["secrets"]

    def test_a_comparison_needs_a_running_pipeline_and_its_tables(
        self, rosetta: Rosetta, shop: Database, store: Store
    ) -> None:
        assert_one_line(rosetta("reconcile", "shop"), "Pipeline shop is paused", "rosetta start shop")
        store.set_status("shop", Status.START)
        assert_one_line(rosetta("reconcile", "shop", "--table", "ghost"), "Pipeline shop has no table public.ghost")

    def test_rows_that_differ_are_shown_by_key_and_fail_the_command(
        self, rosetta: Rosetta, shop: Database, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.set_status("shop", Status.START)
        wrong = Difference(key=("7",), kind=Kind.CHANGED, found="hash")
        comparison = Comparison(
            row_count=1000, bucket_count=16, differing_bucket_count=1, differences=(wrong,), in_flight=(("8",),)
        )
        found = [
            Reconciliation(destination="dw", table=ORDERS, comparison=comparison, left=(wrong,)),
            Reconciliation(destination="dw", table=TableId("public", "items"), problem="The table has no key."),
        ]
        monkeypatch.setattr("rosetta_dagster.cli.reconcile.reconcile", lambda *_, **__: iter(found))
        people, script = rosetta("reconcile", "shop"), rosetta("reconcile", "shop", "--json")
        assert (1, 1) == (people.code, script.code)
        assert [
            "public.orders at dw: 1,000 rows, 1 differ, 1 changed meanwhile",
            "  (7) changed",
            "public.items at dw: not compared. The table has no key.",
        ] == people.out.splitlines()
        assert [{"key": ["7"], "kind": "CHANGED"}] == json.loads(script.out)[0]["differences"]
        found[:] = [Reconciliation(destination="dw", table=ORDERS, comparison=comparison)]
        repaired = rosetta("reconcile", "shop", "--repair")
        assert (0, "public.orders at dw: 1,000 rows, 0 differ, 1 repaired, 1 changed meanwhile\n") == repaired[:2]


class TestConnections:
    def steps(self, rosetta: Rosetta) -> dict[tuple[str, str], tuple[str, str]]:
        result = rosetta("test", "shop", "--json")
        assert "" == result.err
        found = json.loads(result.out)
        assert result.code == int(any(step["outcome"] == "FAILED" for step in found))
        return {(step["place"], step["name"]): (step["outcome"], step["remedy"]) for step in found}

    def test_every_step_passes_and_nothing_remains(self, rosetta: Rosetta, shop: Database, destination: Database) -> None:
        source_steps = ("dns", "tcp", "tls", "log-in", "pooler", "replication", "slot", "privileges")
        wanted = {("source shop", name) for name in source_steps}
        wanted |= {("destination dw", name) for name in ("dns", "tcp", "tls", "log-in", "pooler", "write")}
        steps = self.steps(rosetta)
        assert dict.fromkeys(wanted, "OK") == {step: outcome for step, (outcome, _) in steps.items()}
        people = rosetta("test", "shop")
        assert 0 == people.code
        assert people.out.startswith("source shop\n  OK       dns ")
        assert [(0,)] == shop.rows("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'rosetta_test_%'")
        assert [(0,)] == destination.rows("SELECT count(*) FROM pg_class WHERE relname = 'rosetta_test'")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (
                "UPDATE sources SET pg_host = 'nowhere.invalid', pg_password = 'p'",
                ("source shop", "dns", "Correct the host"),
            ),
            ("UPDATE sources SET pg_port = 1, pg_password = 'p'", ("source shop", "tcp", "Correct the port")),
            ("UPDATE sources SET pg_password = 'wrong'", ("source shop", "log-in", "password")),
            ("UPDATE sources SET pg_sslmode = 'require'", ("source shop", "tls", "enable TLS")),
            ("UPDATE pipeline_tables SET table_name = 'ghost'", ("source shop", "tables", "Create it")),
            (
                'UPDATE destinations SET config = config || \'{"port": 1, "password": "p"}\'',
                ("destination dw", "tcp", "Correct the port"),
            ),
        ],
    )
    def test_a_step_that_fails_names_its_remedy_and_the_other_side_is_tested_still(
        self, rosetta: Rosetta, shop: Database, config_database: Database, change: str, expected: tuple[str, str, str]
    ) -> None:
        place, name, remedy = expected
        config_database.run(change)
        steps = self.steps(rosetta)
        outcome, said = steps[place, name]
        assert "FAILED" == outcome
        assert remedy in said
        other = ("destination dw", "write") if place.startswith("source") else ("source shop", "slot")
        assert "OK" == steps[other][0]

    def test_privileges_that_are_missing_come_with_their_statements(
        self, rosetta: Rosetta, shop: Database, destination: Database, config_database: Database
    ) -> None:
        role = f"writer_{destination.connection.database}"
        destination.run(
            f"CREATE ROLE {role} LOGIN PASSWORD 'open-sesame'", "CREATE TABLE orders (id integer PRIMARY KEY)",
            f"REVOKE TEMP ON DATABASE {destination.connection.database} FROM PUBLIC",
        )  # fmt: skip
        config_database.run(
            f'UPDATE destinations SET config = config || \'{{"username": "{role}", "password": "open-sesame"}}\''
        )
        try:
            outcome, remedy = self.steps(rosetta)["destination dw", "write"]
            assert "FAILED" == outcome
            for statement in remedy.removeprefix("Run at the destination: ").split("; "):
                destination.run(statement)
            assert "OK" == self.steps(rosetta)["destination dw", "write"][0]
        finally:
            destination.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    def test_a_slot_that_waits_for_open_transactions_is_a_warning(
        self, rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rosetta_dagster.cdc.operate.connection_test.SLOT_TIMEOUT", 1.0)
        with shop.connect() as connection, connection.transaction():
            connection.execute("INSERT INTO orders VALUES (1)")
            outcome, remedy = self.steps(rosetta)["source shop", "slot"]
        assert "WARNING" == outcome
        assert "End long transactions" in remedy


class TestDoctor:
    def test_a_machine_that_is_ready_is_examined(self, rosetta: Rosetta, shop: Database) -> None:
        result = rosetta("doctor", "--json")
        found = {each["name"]: each for each in json.loads(result.out)}
        assert 0 == result.code, found
        for name in ("python", "rosetta-dagster", "java", "disk", "configuration", "clock", "SECRET_KEY"):
            assert found[name]["outcome"] in ("OK", "WARNING")
        assert "decrypts 2 rows" == found["SECRET_KEY"]["detail"]
        assert "configuration" in rosetta("doctor").out

    @pytest.mark.parametrize(
        ("name", "variable"),
        [
            ("SECRET_KEY", ("SECRET_KEY", "another key of sixteen characters")),
            ("configuration", ("CONFIG_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d")),
        ],
    )
    def test_what_is_wrong_fails_with_its_remedy(
        self, rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch, name: str, variable: tuple[str, str]
    ) -> None:
        monkeypatch.setenv(*variable)
        result = rosetta("doctor", "--json")
        assert 1 == result.code
        (failed,) = [each for each in json.loads(result.out) if each["outcome"] == "FAILED"]
        assert name == failed["name"]
        assert failed["remedy"]


def test_output_in_a_pipe_is_not_cut(rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert all(part in rosetta("pipelines").out for part in ("pipeline", "success", "shop"))

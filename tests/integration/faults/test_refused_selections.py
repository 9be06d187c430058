"""A selection that PostgreSQL would punish is refused with its remedy, and no statement of an application ever fails."""

import re
import time
from collections.abc import Sequence

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig, TableState
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.source.connections import connect
from rosetta_dagster.cdc.source.preflight import Check, Finding, preflight
from rosetta_dagster.cdc.source.selections import refused_members
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, running, wait_until

T = TableId("public", "t")

TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, tenant int NOT NULL, name text, ssn text)",
    "INSERT INTO t SELECT n, n % 10, 'name', 'secret' FROM generate_series(1, 100) AS n",
)

#: What an application does all the time.
WORK = ("UPDATE t SET name = 'other', tenant = tenant + 1", "DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (1, 7)")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)


def selecting(source: Database, destinations: Sequence[Database], table: TableConfig, **more: str) -> PipelineConfig:
    """A pipeline with the table and another one, which goes on whatever happens to the first."""
    tables = (table, TableConfig(id=TableId("public", "other")))
    return pipeline(Engine.PGOUTPUT, source, destinations).model_copy(update={"tables": tables, **more})


def about_selection(config: PipelineConfig) -> list[Finding]:
    return [finding for finding in preflight(config) if finding.check is Check.SELECTION]


#: For each selection, statements before it, what is said, and the statement that allows it; None when there is no such one.
REFUSED: dict[str, tuple[TableConfig, list[str], str, str | None]] = {
    "filter outside of the key": (
        TableConfig(id=T, where="tenant = 7"),
        [],
        "where uses tenant, which the replica identity does not have",
        'ALTER TABLE "public"."t" REPLICA IDENTITY FULL',
    ),
    "list without the key": (TableConfig(id=T, columns=("name",)), [], "id of its replica identity is not selected", None),
    "key excluded": (TableConfig(id=T, exclude=("id",)), [], "id of its replica identity is not selected", None),
    "list of a whole row": (
        TableConfig(id=T, exclude=("ssn",)),
        ["ALTER TABLE t REPLICA IDENTITY FULL"],
        "its replica identity is the whole row",
        'ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT',
    ),
    "list and filter": (
        TableConfig(id=T, exclude=("ssn",), where="tenant = 7"),
        [],
        "where uses tenant",
        "CREATE UNIQUE INDEX t_both ON t (id, tenant); ALTER TABLE t REPLICA IDENTITY USING INDEX t_both",
    ),
    "unknown column": (TableConfig(id=T, columns=("id", "nmae")), [], "no column nmae, .*; did you mean name", None),
    "excluded column renamed": (TableConfig(id=T, exclude=("snn",)), [], "no column snn, .*; did you mean ssn", None),
    "no condition": (TableConfig(id=T, where="id >"), [], "does not accept the condition in where .*syntax error", None),
    "volatile": (TableConfig(id=T, where="id > random()"), [], "does not accept the condition .*mutable functions", None),
    "subquery": (TableConfig(id=T, where="id IN (SELECT 1)"), [], "does not accept the condition", None),
    "another table": (
        TableConfig(id=T, where="true), TABLE ONLY public.hidden WHERE (true"), [], "it is not one condition", None,
    ),
    "another statement": (
        TableConfig(id=T, where="true); DROP TABLE public.hidden; SELECT (1"), [], "does not accept", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_selection_is_refused_with_what_allows_it(case: str, source: Database, destination: Database) -> None:
    table, before, message, remedy = REFUSED[case]
    source.run(*TABLE, "CREATE TABLE other (id int PRIMARY KEY)", "CREATE TABLE hidden (id int PRIMARY KEY)", *before)
    config = selecting(source, [destination], table)
    (finding,) = about_selection(config)
    assert finding.is_error
    assert finding.table == T
    assert re.search(message, finding.message)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        state, reason = worker.report().states[T]
        assert (TableState.ERROR, True) == (state, finding.message in (reason or ""))
        source.run(*WORK)
    if remedy is not None:
        assert "ALTER TABLE" in finding.remedy
        source.run(remedy)
        assert [False] == [each.is_error for each in about_selection(config)]
        with running(config) as worker:
            wait_until(worker, lambda: worker.report().states.get(T, (None,))[0] is TableState.STREAMING)
            source.run(*WORK)
    assert [(1,)] == source.rows("SELECT count(*) FROM pg_class WHERE relname = 'hidden'")


@pytest.mark.parametrize(
    ("table", "prepare", "spoil"),
    [
        (TableConfig(id=T, where="tenant = 7"), "ALTER TABLE t REPLICA IDENTITY FULL", "REPLICA IDENTITY DEFAULT"),
        (TableConfig(id=T, exclude=("ssn",)), "SELECT", "REPLICA IDENTITY FULL"),
    ],
    ids=["filter", "list"],
)
def test_a_table_whose_identity_changes_is_taken_out_of_the_publication(
    table: TableConfig, prepare: str, spoil: str, source: Database, destination: Database
) -> None:
    source.run(*TABLE, "CREATE TABLE other (id int PRIMARY KEY)", prepare)
    config = selecting(source, [destination], table)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run(f"ALTER TABLE t {spoil}")
        wait_until(worker, lambda: not source.rows("SELECT FROM pg_publication_rel WHERE prrelid = 't'::regclass"))
        source.run(*WORK)
        wait_until(worker, lambda: worker.report().states[T][0] is TableState.ERROR)
        source.run("INSERT INTO other VALUES (1)")
        wait_until(worker, lambda: destination.rows("SELECT FROM other") != [])
        source.run(prepare if "ALTER" in prepare else "ALTER TABLE t REPLICA IDENTITY DEFAULT")
        wait_until(worker, lambda: worker.report().states[T][0] is TableState.STREAMING)
        source.run(*WORK)


def test_no_table_is_taken_out_of_somebody_elses_publication(source: Database, destination: Database) -> None:
    """Nor one of which the server refuses the updates: its owner has chosen that."""
    source.run(*TABLE, "CREATE TABLE other (id int PRIMARY KEY)", "CREATE TABLE log (id int PRIMARY KEY, kind int)")
    source.run("CREATE PUBLICATION mine FOR TABLE t, other, log WHERE (kind = 7)")
    config = selecting(source, [destination], TableConfig(id=T, where="id = 1"), own_publication_name="mine")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO other VALUES (1)")
        wait_until(worker, lambda: destination.rows("SELECT FROM other") != [])
        # Five inspections.
        time.sleep(1)
    members = source.rows("SELECT prrelid::regclass::text FROM pg_publication_rel ORDER BY 1")
    assert [("log",), ("other",), ("t",)] == members


def test_a_vacuum_of_a_selected_table_keeps_no_run_from_starting(source: Database, destination: Database) -> None:
    source.run(*TABLE, "CREATE TABLE other (id int PRIMARY KEY)")
    config = selecting(source, [destination], TableConfig(id=T, exclude=("ssn",), where="id > 5 "))
    members = "SELECT oid, xmin, prrelid FROM pg_publication_rel ORDER BY 1"
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        before = source.rows(members)
    with psycopg.connect(source.url) as vacuum:
        # The lock that a vacuum holds.
        vacuum.execute("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO t VALUES (500, 1, 'new', 'new')")
            wait_until(worker, lambda: [(1,)] == destination.rows("SELECT count(*) FROM t WHERE id = 500"))
            # The count follows the row.
            wait_until(worker, lambda: T in worker.report().tables)
            assert worker.report().tables[T].copied == 0
    assert before == source.rows(members)
    # What somebody else made of it is set again.
    name = config.publication_name
    source.run(f"ALTER PUBLICATION {name} DROP TABLE t", f"ALTER PUBLICATION {name} ADD TABLE ONLY t WHERE (id > 7)")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
    assert [("(id > 5)",)] == source.rows(
        "SELECT pg_get_expr(prqual, prrelid) FROM pg_publication_rel WHERE prqual IS NOT NULL"
    )


def test_the_catalog_names_exactly_what_the_server_refuses(source: Database) -> None:
    """The catalog's verdict and the server's agree for every identity and selection, partitions included."""
    identities = ["DEFAULT", "FULL", "USING INDEX by_tenant"]
    selections = ["", "(id, name)", "(id, tenant)", "(tenant, name)", "WHERE (id > 0)", "WHERE (tenant > 0)",
                  "(id, tenant) WHERE (tenant > 0 AND name <> 'x')", "WHERE (name > '')"]  # fmt: skip
    source.run(*TABLE, "CREATE UNIQUE INDEX by_tenant ON t (tenant, id)")
    with connect(source.connection) as catalog:
        for identity in identities:
            for selection in selections:
                source.run(
                    f"ALTER TABLE t REPLICA IDENTITY {identity}",
                    f"CREATE PUBLICATION p FOR TABLE ONLY t {selection} WITH (publish_via_partition_root = true)",
                )
                is_refused = False
                for statement in ("UPDATE t SET name = 'x' WHERE id = 2", "DELETE FROM t WHERE id = -1"):
                    try:
                        source.run(statement)
                    except psycopg.errors.InvalidColumnReference:
                        is_refused = True
                found = bool(refused_members(catalog, ["p"]))
                assert (identity, selection, is_refused) == (identity, selection, found)
                source.run("DROP PUBLICATION p")


def test_rows_and_columns_of_somebody_elses_publication_are_shown_and_not_changed(source: Database) -> None:
    source.run(*TABLE, "CREATE TABLE other (id int PRIMARY KEY)", "ALTER TABLE t REPLICA IDENTITY FULL")
    source.run("CREATE PUBLICATION mine FOR TABLE t WHERE (tenant = 7), other")
    (shown,) = about_selection(selecting(source, [], TableConfig(id=T), own_publication_name="mine"))
    assert not shown.is_error
    assert "rows (tenant = 7)" in shown.message
    (refused,) = about_selection(selecting(source, [], TableConfig(id=T, where="id = 1"), own_publication_name="mine"))
    assert refused.is_error
    assert "publication mine is not Rosetta's own" in refused.message

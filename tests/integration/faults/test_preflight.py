"""Each thing that may be wrong with a source: told in one clear message with its remedy, and without the password."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineConfig,
    PostgresConnection,
    SourceConfig,
    TableConfig,
)
from rosetta_dagster.cdc.errors import ConfigurationError, PreflightFailed, RosettaError, SourceUnavailable
from rosetta_dagster.cdc.source.preflight import Finding, Severity, preflight, raise_findings
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.servers import needs_version, server_for_sources

T = TableId("public", "t")
ROLE_PASSWORD = "hunter2hunter2"


def pipeline(connection: PostgresConnection, *tables: TableId, **changes: Any) -> PipelineConfig:
    values: dict[str, Any] = {
        "id": 1,
        "name": connection.database,
        "engine": Engine.DEBEZIUM,
        "source": SourceConfig(name="shop", connection=connection),
        "destinations": (DestinationConfig(name="dw", type="POSTGRES", config={}),),
        "tables": tuple(TableConfig(id=table) for table in tables),
    }
    return PipelineConfig(**{**values, **changes})


def only(findings: tuple[Finding, ...], check: str, *, warning: bool = False) -> str:
    """The text of the only finding."""
    assert [(check, Severity.WARNING if warning else Severity.ERROR)] == [(f.check, f.severity) for f in findings]
    assert findings[0].message.endswith(".")
    assert findings[0].remedy
    assert "\n" not in str(findings[0])
    return str(findings[0])


@pytest.fixture
def shop(source: Database) -> Database:
    source.run("CREATE TABLE t (id int PRIMARY KEY, a text)")
    return source


@dataclass(frozen=True, kw_only=True)
class Role:
    name: str
    connection: PostgresConnection


@pytest.fixture
def role(shop: Database) -> Iterator[Role]:
    """One that may log in and nothing else."""
    name = f"Reader {shop.connection.database}"
    identifier = sql.Identifier(name)
    with shop.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, sql.Literal(ROLE_PASSWORD)))
        row = {**shop.config, "username": name, "password": ROLE_PASSWORD}
        yield Role(name=name, connection=PostgresConnection.model_validate(row))
        connection.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(identifier, identifier))


def allow(database: Database, role: Role, *grants: str) -> None:
    """Run the statements, with the role's name in the place of `{}`."""
    database.run(*(grant.replace("{}", f'"{role.name}"') for grant in grants))


def test_a_source_that_is_ready_has_no_findings_and_is_not_changed(shop: Database) -> None:
    assert () == preflight(pipeline(shop.connection, T))
    assert [(0, 0)] == shop.rows(
        "SELECT (SELECT count(*) FROM pg_publication),"
        " (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())"
    )


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"host": "nowhere.invalid"}, SourceUnavailable, "cannot be reached"),
        ({"port": 1}, SourceUnavailable, "cannot be reached"),
        ({"database": "ghost"}, ConfigurationError, 'database "ghost" does not exist'),
        ({"username": "ghost"}, ConfigurationError, 'password authentication failed for user "ghost"'),
        ({"password": ROLE_PASSWORD}, ConfigurationError, "password authentication failed"),
        ({"password": None}, ConfigurationError, "no password supplied"),
        ({"sslmode": "require"}, ConfigurationError, "server does not support SSL"),
    ],
    ids=["host", "port", "database", "user", "password", "no password", "tls"],
)
def test_a_wrong_row_of_the_source_is_reported_with_its_place(
    shop: Database, change: dict[str, Any], kind: type[RosettaError], told: str
) -> None:
    connection = PostgresConnection.model_validate({**shop.config, **change})
    with pytest.raises(kind) as caught:
        preflight(pipeline(connection, T))
    assert kind is type(caught.value)
    assert str(caught.value).startswith(f"Source {connection.describe()} ")
    assert told in caught.value.message
    assert caught.value.remedy
    for text in (str(caught.value), repr(caught.value)):
        assert "\n" not in text
        assert ROLE_PASSWORD not in text
        assert shop.config["password"] not in text


def test_a_pipeline_without_tables_is_refused(shop: Database) -> None:
    text = only(preflight(pipeline(shop.connection)), "tables")
    assert f"Pipeline {shop.connection.database} has no tables. Insert rows into pipeline_tables" in text


def test_a_pipeline_without_a_destination_is_refused(shop: Database) -> None:
    text = only(preflight(pipeline(shop.connection, T, destinations=())), "destinations")
    assert "has no destination. Insert a row into pipeline_destinations" in text


@pytest.mark.parametrize("table", [TableId("public", "ghost"), TableId("public", "T"), TableId("ghost", "t")])
def test_a_table_that_does_not_exist_is_reported_by_its_full_name(shop: Database, table: TableId) -> None:
    text = only(preflight(pipeline(shop.connection, T, table)), "tables")
    assert f"Table {table} does not exist at the source." in text


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("CREATE TABLE odd ()", "Table public.odd has no column that is logged. Take it out"),
        ("CREATE VIEW odd AS SELECT 1 AS id", "public.odd is not a table at the source. Take it out"),
        (
            "CREATE UNLOGGED TABLE odd (id int PRIMARY KEY)",
            "public.odd is unlogged: its changes are not in the log. Run ALTER",
        ),
        ("CREATE SEQUENCE odd", "public.odd is not a table at the source. Take it out"),
    ],
)
def test_what_cannot_be_replicated_is_not_called_missing(shop: Database, create: str, message: str) -> None:
    shop.run(create)
    findings = preflight(pipeline(shop.connection, T, TableId("public", "odd")))
    assert message in only(findings, "tables")
    assert TableId("public", "odd") == findings[0].table
    raise_findings(findings, [T, TableId("public", "odd")])
    with pytest.raises(PreflightFailed):
        raise_findings(findings, [TableId("public", "odd")])


@pytest.mark.parametrize("name", ["cusomers", "Customers", "customer"])
def test_a_mistyped_name_gets_the_names_that_are_near(shop: Database, name: str) -> None:
    shop.run("CREATE TABLE customers (id int PRIMARY KEY)")
    text = only(preflight(pipeline(shop.connection, T, TableId("public", name))), "tables")
    assert "Similar names: public.customers." in text


def test_a_partition_beside_its_root_is_refused(shop: Database) -> None:
    shop.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        "CREATE TABLE p2 PARTITION OF p1 FOR VALUES FROM (0) TO (5)",
    )
    tables = [TableId("public", name) for name in ("p", "p2")]
    findings = preflight(pipeline(shop.connection, *tables))
    assert "Table public.p2 is a partition of public.p, which the pipeline replicates" in only(findings, "tables")
    assert () == preflight(pipeline(shop.connection, tables[1]))


@pytest.mark.parametrize("table", [TableId("pg_catalog", "pg_class"), TableId("rosetta", "streams")])
def test_tables_of_the_server_and_of_rosetta_are_refused(shop: Database, table: TableId) -> None:
    shop.run("CREATE SCHEMA rosetta", "CREATE TABLE rosetta.streams (id int PRIMARY KEY)")
    assert "Take it out of pipeline_tables." in only(preflight(pipeline(shop.connection, table)), "tables")


def test_children_by_inheritance_are_named_as_not_replicated(shop: Database) -> None:
    shop.run("CREATE TABLE child () INHERITS (t)")
    assert "1 other table inherits from table public.t" in only(
        preflight(pipeline(shop.connection, T)), "inheritance", warning=True
    )


def test_a_role_without_replication_is_reported_and_the_remedy_works(shop: Database, role: Role) -> None:
    config = pipeline(role.connection, T, own_publication_name="p")
    shop.run("CREATE PUBLICATION p FOR ALL TABLES")
    allow(shop, role, "GRANT SELECT ON t TO {}", f'GRANT CREATE ON DATABASE "{shop.connection.database}" TO {{}}')
    text = only(preflight(config), "replication")
    assert f"Role {role.name} may not replicate." in text
    assert ROLE_PASSWORD not in text
    shop.run(text.partition("Run ")[2].removesuffix(" at the source."))
    assert "replication" not in {finding.check for finding in preflight(config)}


def test_a_role_without_select_is_reported_and_the_remedy_works(shop: Database, role: Role) -> None:
    config = pipeline(role.connection, T, own_publication_name="p")
    shop.run("CREATE PUBLICATION p FOR ALL TABLES")
    allow(shop, role, "ALTER ROLE {} REPLICATION", f'GRANT CREATE ON DATABASE "{shop.connection.database}" TO {{}}')
    text = only(preflight(config), "privileges")
    assert f"Role {role.name} may not read table public.t." in text
    shop.run(text.partition("Run ")[2].removesuffix(" at the source."))
    assert "privileges" not in {finding.check for finding in preflight(config)}


def test_the_remedy_for_a_table_of_mixed_case_works_too(shop: Database, role: Role) -> None:
    table = TableId("public", "Mixed")
    config = pipeline(role.connection, table, own_publication_name="p")
    shop.run('CREATE TABLE "Mixed" (id int PRIMARY KEY)')
    shop.run("CREATE PUBLICATION p FOR ALL TABLES")
    allow(shop, role, "ALTER ROLE {} REPLICATION", f'GRANT CREATE ON DATABASE "{shop.connection.database}" TO {{}}')
    text = only(preflight(config), "privileges")
    shop.run(text.partition("Run ")[2].removesuffix(" at the source."))
    assert () == preflight(config)


def test_a_role_that_may_not_use_the_namespace_is_reported(shop: Database, role: Role) -> None:
    shop.run("CREATE SCHEMA closed", "CREATE TABLE closed.t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR ALL TABLES")
    allow(shop, role, "ALTER ROLE {} REPLICATION", "GRANT SELECT ON closed.t TO {}")
    config = pipeline(role.connection, TableId("closed", "t"), own_publication_name="p")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(role.connection.conninfo()) as reader:
        reader.execute("SELECT * FROM closed.t")
    only(preflight(config), "privileges")


def test_a_role_that_sees_only_some_rows_is_reported(shop: Database, role: Role) -> None:
    shop.run(
        "INSERT INTO t VALUES (1, 'seen'), (2, 'hidden')",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY visible ON t USING (id = 1)",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    allow(shop, role, "ALTER ROLE {} REPLICATION", "GRANT SELECT ON t TO {}")
    with psycopg.connect(role.connection.conninfo()) as reader:
        assert [(1,)] == reader.execute("SELECT id FROM t").fetchall()
    assert () != preflight(pipeline(role.connection, T, own_publication_name="p"))


def test_a_role_that_may_not_create_the_publication_is_reported(shop: Database, role: Role) -> None:
    allow(shop, role, "ALTER ROLE {} REPLICATION", "GRANT SELECT ON t TO {}")
    text = only(preflight(pipeline(role.connection, T, own_publication_name="p")), "publication")
    assert f"Publication p does not exist, and role {role.name} may not create it. Grant CREATE" in text
    shop.run("CREATE PUBLICATION p FOR TABLE t")
    assert () == preflight(pipeline(role.connection, T, own_publication_name="p"))


def test_no_remedy_for_a_publication_makes_updates_of_the_application_fail(shop: Database, role: Role) -> None:
    shop.run("CREATE TABLE keyless (n int)", "INSERT INTO keyless VALUES (1)")
    allow(shop, role, "ALTER ROLE {} REPLICATION", "GRANT SELECT ON t, keyless TO {}")
    config = pipeline(role.connection, T, TableId("public", "keyless"), own_publication_name="p")

    def remedy() -> str:
        (finding,) = (each for each in preflight(config) if "publication" == each.check)
        return finding.remedy

    shop.run(remedy().partition("administrator: ")[2].removesuffix("."))
    shop.run("UPDATE keyless SET n = 2")
    assert "Give the table a replica identity first" in remedy()
    shop.run("ALTER PUBLICATION p ADD TABLE keyless")
    with pytest.raises(psycopg.Error, match="does not have a replica identity"):
        shop.run("UPDATE keyless SET n = 3")
    shop.run(remedy().partition("or run ")[2].removesuffix(" at the source."))
    shop.run("UPDATE keyless SET n = 3")


def test_the_statement_for_a_publication_without_tables_is_valid(shop: Database, role: Role) -> None:
    allow(shop, role, "ALTER ROLE {} REPLICATION")
    found = preflight(pipeline(role.connection, TableId("public", "missing"), own_publication_name="p"))
    (remedy,) = (finding.remedy for finding in found if "publication" == finding.check)
    shop.run(remedy.partition("administrator: ")[2].removesuffix("."))


def test_a_role_that_does_not_own_the_table_cannot_publish_it_and_is_reported(shop: Database, role: Role) -> None:
    database = shop.connection.database
    allow(shop, role, "ALTER ROLE {} REPLICATION", "GRANT SELECT ON t TO {}")
    allow(shop, role, f'GRANT CREATE ON DATABASE "{database}" TO {{}}')
    with (
        psycopg.connect(role.connection.conninfo(), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table t"),
    ):
        connection.execute("CREATE PUBLICATION p FOR TABLE t")
    only(preflight(pipeline(role.connection, T)), "publication")


def test_every_missing_privilege_of_a_role_is_reported_at_once(shop: Database, role: Role) -> None:
    findings = preflight(pipeline(role.connection, T))
    assert ["privileges", "publication", "replication"] == sorted(finding.check for finding in findings)
    assert not any(ROLE_PASSWORD in str(finding) for finding in findings)


def test_a_foreign_publication_without_a_table_is_reported_and_the_remedy_works(shop: Database) -> None:
    shop.run("CREATE TABLE other (id int PRIMARY KEY)", "CREATE PUBLICATION theirs FOR TABLE other")
    config = pipeline(shop.connection, T, TableId("public", "other"), own_publication_name="theirs")
    text = only(preflight(config), "publication")
    assert "Publication theirs does not have table public.t." in text
    shop.run(text.partition("Run ")[2].removesuffix(" at the source."))
    assert () == preflight(config)


def test_a_publication_of_rosettas_own_may_miss_a_table(shop: Database) -> None:
    config = pipeline(shop.connection, T)
    shop.run(f"CREATE PUBLICATION {config.publication_name}")
    assert () == preflight(config)


@pytest.mark.parametrize(
    "publication",
    [
        "FOR TABLE t WITH (publish = 'insert')",
        pytest.param("FOR TABLE t (id)", marks=needs_version(15)),
        pytest.param("FOR TABLE t WHERE (id > 5)", marks=needs_version(15)),
    ],
)
def test_a_publication_of_only_some_kinds_of_changes_is_reported(shop: Database, publication: str) -> None:
    shop.run(f"CREATE PUBLICATION theirs {publication}")
    assert () != preflight(pipeline(shop.connection, T, own_publication_name="theirs"))


def test_a_publication_of_partitions_instead_of_their_table_is_reported(source: Database) -> None:
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id)",
        "CREATE TABLE t1 PARTITION OF t DEFAULT",
        "CREATE PUBLICATION theirs FOR TABLE t",
    )
    assert () != preflight(pipeline(source.connection, T, own_publication_name="theirs"))


def test_a_table_without_a_replica_identity_is_a_warning_and_the_remedy_works(shop: Database) -> None:
    shop.run("CREATE TABLE keyless (a int)")
    config = pipeline(shop.connection, TableId("public", "keyless"))
    text = only(preflight(config), "replica_identity", warning=True)
    assert "Table public.keyless has no replica identity: its inserts and truncates are replicated" in text
    raise_findings(preflight(config), [table.id for table in config.tables])
    shop.run(text.partition("or run ")[2].removesuffix(" at the source."))
    assert () == preflight(config)


@needs_version(18)
def test_a_generated_column_in_the_replica_identity_is_a_warning_with_a_remedy(shop: Database) -> None:
    shop.run("ALTER TABLE t ADD COLUMN sum int GENERATED ALWAYS AS (id + 1) STORED", "ALTER TABLE t REPLICA IDENTITY FULL")
    config = pipeline(shop.connection, T)
    text = only(preflight(config), "replica_identity", warning=True)
    shop.run("CREATE PUBLICATION published FOR TABLE t")
    with pytest.raises(psycopg.errors.InvalidColumnReference, match="unpublished generated columns"):
        shop.run("DELETE FROM t")
    shop.run(text.partition(" Run ")[2].removesuffix(" at the source."), "DELETE FROM t")
    assert () == preflight(config)


def test_a_key_of_a_table_that_logs_nothing_is_no_replica_identity(shop: Database) -> None:
    shop.run("ALTER TABLE t REPLICA IDENTITY NOTHING")
    only(preflight(pipeline(shop.connection, T)), "replica_identity", warning=True)


def test_a_column_that_debezium_cannot_report_is_reported_for_that_engine_only(shop: Database) -> None:
    shop.run("ALTER TABLE t ADD COLUMN opening timetz")
    text = only(preflight(pipeline(shop.connection, T)), "debezium")
    assert "Table public.t: " in text
    assert "opening" in text
    assert "PGOUTPUT" in text
    assert () == preflight(pipeline(shop.connection, T, engine=Engine.PGOUTPUT))


def test_errors_come_before_warnings_and_are_all_in_the_failure(shop: Database) -> None:
    shop.run("CREATE TABLE keyless (a int)")
    tables = [TableId("public", name) for name in ("keyless", "ghost", "phantom")]
    findings = preflight(pipeline(shop.connection, *tables, destinations=()))
    assert ["ERROR", "ERROR", "ERROR", "WARNING"] == [finding.severity for finding in findings]
    with pytest.raises(PreflightFailed) as caught:
        raise_findings(findings, [T])
    for part in ("no destination", "public.ghost", "public.phantom"):
        assert part in str(caught.value)
    assert "keyless" not in str(caught.value)


@pytest.fixture(scope="module")
def physical_server() -> Iterator[EmbeddedPostgres]:
    with server_for_sources({"wal_level": "replica"}) as server:
        yield server


@pytest.fixture(scope="module")
def small_server() -> Iterator[EmbeddedPostgres]:
    """With one slot, and no walsender when it is restarted with none."""
    with server_for_sources({"max_replication_slots": "1", "max_wal_senders": "1"}) as server:
        yield server


def test_a_server_without_logical_replication_is_reported(physical_server: EmbeddedPostgres) -> None:
    database = Database(url=physical_server.create_database("shop"))
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    text = only(preflight(pipeline(database.connection, T)), "wal_level")
    assert "wal_level=replica; change data capture needs logical. Set wal_level = logical" in text


def test_a_server_without_a_free_slot_or_walsender_for_the_pipeline_is_reported(
    small_server: EmbeddedPostgres,
) -> None:
    database = Database(url=small_server.create_database("shop"))
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')")
    text = only(preflight(pipeline(database.connection, T)), "slots")
    assert "The source has no free replication slot. Drop unused slots, or raise max_replication_slots" in text
    assert () == preflight(pipeline(database.connection, T, own_replication_name="taken"))
    with psycopg.connect(database.connection.conninfo(replication="database"), autocommit=True):
        text = only(preflight(pipeline(database.connection, T, own_replication_name="taken")), "walsenders")
    assert "The source has no free walsender. Raise max_wal_senders" in text

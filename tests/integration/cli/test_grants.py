"""`rosetta grants`: the printed statements are enough for each role, and none of them can be left out."""

import json
import re
from collections.abc import Iterator

import pytest

from rosetta_dagster.cdc.config.pipeline import DestinationConfig
from rosetta_dagster.cdc.destination.snowflake.grants import grants as snowflake_grants
from rosetta_dagster.cdc.grants import Grants
from rosetta_dagster.cdc.operate.grants import Provider, grants
from rosetta_dagster.cdc.store.database import Store
from tests.support.command_line import Rosetta
from tests.support.database import SECRET_KEY, Database

PASSWORD = "open sesame, please"


@pytest.fixture
def roles(rosetta: Rosetta, shop: Database, destination: Database, config_database: Database) -> Iterator[tuple[str, str]]:
    """The pipeline's two roles, which may log in. What PUBLIC may do by default is taken away."""
    reader, writer = f"reader_{shop.connection.database}", f"writer_{destination.connection.database}"
    shop.run('CREATE TABLE "Odd name" (id integer PRIMARY KEY)')
    for database, role in ((shop, reader), (destination, writer)):
        database.run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        database.run(f"REVOKE ALL ON DATABASE {database.connection.database} FROM PUBLIC")
        database.run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    config_database.run(
        f"UPDATE sources SET pg_username = '{reader}', pg_password = '{PASSWORD}'",
        f'UPDATE destinations SET config = config || \'{{"username": "{writer}", "password": "{PASSWORD}"}}\'',
        "INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name) SELECT id, 'public', 'Odd name' FROM pipelines",
    )
    yield reader, writer
    for database, role in ((shop, reader), (destination, writer)):
        database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def statements(rosetta: Rosetta) -> list[list[str]]:
    """Those of the source, of the destination and of the configuration database."""
    return [each["statements"] for each in json.loads(rosetta("grants", "shop", "--json").out)]


def is_ready(rosetta: Rosetta) -> bool:
    return 0 == rosetta("test", "shop").code


def revocations(statement: str) -> list[tuple[str, str]]:
    """What takes each privilege of a GRANT away, and what gives it again."""
    found = re.fullmatch(r"GRANT ([A-Z, ]+) ON (.*) TO (\S+)", statement)
    if found is None:
        return []
    privileges, what, role = found.groups()
    return [(f"REVOKE {each} ON {what} FROM {role}", f"GRANT {each} ON {what} TO {role}") for each in privileges.split(", ")]


def test_the_statements_are_enough_and_none_can_be_left_out(
    rosetta: Rosetta, shop: Database, destination: Database, roles: tuple[str, str]
) -> None:
    assert not is_ready(rosetta)
    of_source, of_destination, _ = statements(rosetta)
    shop.run(*of_source)
    destination.run(*of_destination)
    assert is_ready(rosetta), rosetta("test", "shop").out
    tried = 0
    for database, texts in ((shop, of_source), (destination, of_destination)):
        for revoke, grant in (pair for text in texts for pair in revocations(text)):
            database.run(revoke)
            assert not is_ready(rosetta), f"it does without: {grant}"
            database.run(grant)
            tried += 1
    assert 9 == tried, "CONNECT, USAGE, SELECT; CONNECT, TEMPORARY, and USAGE and CREATE on two schemas"
    shop.run(f"ALTER ROLE {roles[0]} NOREPLICATION")
    assert not is_ready(rosetta)


def test_the_role_of_the_configuration_database_can_migrate_it(
    rosetta: Rosetta, roles: tuple[str, str], shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statements, for another role and another database."""
    role, database = f"keeper_{shop.connection.database}", shop.connection.database
    *_, text = statements(rosetta)
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    try:
        shop.run(*(re.sub(r"TO \S+$", f"TO {role}", re.sub(r"DATABASE \S+", f"DATABASE {database}", each)) for each in text))
        monkeypatch.setenv("CONFIG_DATABASE_URL", f"postgresql://{role}:secret@127.0.0.1:{shop.connection.port}/{database}")
        assert "applied 001_create_table.sql" in rosetta("migrate").out
        assert (0, "") == rosetta("status")[::2]
    finally:
        shop.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("host", "statement"),
    [
        ("db.abc.eu-west-1.rds.amazonaws.com", 'GRANT rds_replication TO "rosetta"'),
        ("db.cluster-abc.eu-west-1.rds.amazonaws.com", 'GRANT rds_replication TO "rosetta"'),
        ("shop.postgres.database.azure.com", 'ALTER ROLE "rosetta" REPLICATION'),
        ("db.example.com", 'ALTER ROLE "rosetta" REPLICATION'),
    ],
)
def test_the_right_to_replicate_is_given_as_the_server_wants_it(
    shop: Database, config_database: Database, store: Store, host: str, statement: str
) -> None:
    config_database.run(f"UPDATE sources SET pg_host = '{host}', pg_username = 'rosetta', pg_password = NULL")
    source, _ = grants(store.pipeline("shop"))
    assert statement == source.statements[0]
    assert source.lines()[0].startswith("-- source shop")
    cloud, _ = grants(store.pipeline("shop"), Provider.CLOUDSQL)
    assert 'ALTER USER "rosetta" WITH REPLICATION' == cloud.statements[0]


def test_neon_gives_it_in_its_console(shop: Database, store: Store) -> None:
    source, _ = grants(store.pipeline("shop"), Provider.NEON)
    assert not any("REPLICATION" in each for each in source.statements)


def test_snowflake_gets_its_own_statements() -> None:

    config = {"account": "a-b", "user": "rosetta", "database": "my data", "warehouse": "LOADING", "role": "LOADER"}
    found: Grants = snowflake_grants(DestinationConfig(name="dw", type="SNOWFLAKE", config=config), [])
    assert 'GRANT USAGE, CREATE SCHEMA ON DATABASE "my data" TO ROLE LOADER' in found.statements
    assert "GRANT USAGE ON WAREHOUSE LOADING TO ROLE LOADER" in found.statements


def test_people_get_a_script_without_a_secret(rosetta: Rosetta, shop: Database, roles: tuple[str, str]) -> None:
    result = rosetta("grants", "shop")
    assert (0, "") == (result.code, result.err)
    assert PASSWORD not in result.out
    assert SECRET_KEY not in result.out
    assert all(not line or line.startswith("-- ") or line.endswith(";") for line in result.out.splitlines())

"""What a newcomer meets first at the command line: a wrong password, a publication of the administrator, the way out."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.command_line import PASSWORD, Rosetta, assert_one_line, place_of
from tests.support.database import Database


@pytest.fixture
def reader(source: Database) -> Iterator[str]:
    """A role that may replicate and read, and owns nothing."""
    name = f"reader_{source.connection.database}"
    with source.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD))
        )
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def test_drop_leaves_the_publication_of_somebody_else(
    rosetta: Rosetta, shop: Database, reader: str, config_database: Database
) -> None:
    shop.run("CREATE PUBLICATION rosetta_shop FOR TABLE orders")
    assert 0 == rosetta("source", "edit", "shop", "--username", reader, "--password").code
    config_database.run(f"UPDATE pipelines SET replication_name = '{shop.connection.database}'")
    for words in (("drop", "shop"), ("drop", "shop", "--yes")):
        result = rosetta(*words)
        assert (0, "") == (result.code, result.err)
        removed, _, left = result.out.partition("left:")
        assert "publication" not in removed
        assert 'its owner may run: DROP PUBLICATION IF EXISTS "rosetta_shop"' in left
    assert [] == config_database.rows("SELECT name FROM pipelines")


def test_a_source_that_cannot_be_reached_is_added_and_reported(
    rosetta: Rosetta, source: Database, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = [*place_of(source)[:-1], reader]
    monkeypatch.setenv("ROSETTA_PASSWORD", "wrong")
    added = rosetta("source", "add", "shop", *place)
    assert 0 == added.code
    assert "added source shop" in added.out
    assert "password authentication failed" in added.err
    assert "rosetta source edit shop" in added.err
    assert "wrong" not in added.err
    monkeypatch.setenv("ROSETTA_PASSWORD", PASSWORD)
    changed = rosetta("source", "edit", "shop", "--password")
    assert (0, "") == (changed.code, changed.err)


def test_a_name_that_exists_leads_to_the_command_that_changes_it(rosetta: Rosetta, shop: Database) -> None:
    assert_one_line(rosetta("source", "add", "shop", *place_of(shop)), "rosetta source edit shop")


def test_a_table_that_a_pipeline_does_not_have_leads_to_its_tables(rosetta: Rosetta, shop: Database) -> None:
    assert_one_line(rosetta("resync", "shop", "--table", "ordres"), "rosetta status shop")


def test_the_directory_of_dagster_is_read_from_the_file_of_variables(
    rosetta: Rosetta, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / ".env").write_text(f"DAGSTER_HOME={tmp_path / 'home'}\n")
    assert "DAGSTER_HOME" not in rosetta("logs", "shop").err


def test_a_remark_about_a_table_holds_a_statement_that_can_be_run(rosetta: Rosetta, shop: Database, reader: str) -> None:
    assert 0 == rosetta("source", "edit", "shop", "--username", reader, "--password").code
    shop.run(f'GRANT USAGE ON SCHEMA public TO "{reader}"')
    remark = rosetta("source", "tables", "shop").out.partition("Run: ")[2]
    shop.run(remark.strip())
    assert "may not read" not in rosetta("source", "tables", "shop").out
    with psycopg.connect(shop.connection.conninfo()) as connection:
        assert connection.execute(f"SELECT has_table_privilege('{reader}', 'orders', 'SELECT')").fetchone() == (True,)

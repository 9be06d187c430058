"""The checks of each table: what is set aside, drifted or missing is said, and stays shown when the table changes."""

from collections.abc import Iterable

import dagster as dg
import pytest

from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.rows import add_pipeline


class Shop:
    """A pipeline of two tables that are copied, and the same on both sides."""

    def __init__(self, store: Store, settings: Settings, instance: dg.DagsterInstance, name: str) -> None:
        self.store, self.settings, self.instance, self.name = store, settings, instance, name

    def key(self, table: str) -> dg.AssetKey:
        return dg.AssetKey([f"{self.name}_dw", "public", table])

    def set_rows(self, assignments: str, table: str = "items") -> None:
        with self.store.connected() as connection:
            connection.execute(f"UPDATE pipeline_tables SET {assignments} WHERE table_name = '{table}'".encode())

    def execute(self, check: str, tables: Iterable[str] = ("items",)) -> list[dg.AssetCheckEvaluation]:
        """Execute a check of these tables as the UI does."""
        keys = {dg.AssetCheckKey(self.key(table), check) for table in tables}
        job = build(self.store.shapes(), self.settings).resolve_implicit_global_asset_job_def()
        subset = job.get_subset(asset_selection=set(), asset_check_selection=keys)
        result = subset.execute_in_process(instance=self.instance, raise_on_error=False)
        assert not result.get_asset_materialization_events()
        return list(result.get_asset_check_evaluations())


@pytest.fixture
def shop(store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database) -> Shop:
    for database in (source, destination):
        database.run(
            "CREATE TABLE orders (id int PRIMARY KEY, note varchar(40), at timestamptz NOT NULL)",
            "CREATE TABLE items (id int PRIMARY KEY)",
            "INSERT INTO items SELECT generate_series(1, 1000)",
        )
    add_pipeline(store, "shop", source, destination, "orders", "items")
    made = Shop(store, settings, instance, "shop")
    for table in ("orders", "items"):
        made.set_rows("state = 'STREAMING'", table)
    return made


def test_a_table_that_is_set_aside_fails_with_the_remedy_and_blocks(shop: Shop) -> None:
    (found,) = shop.execute("replicated")
    assert (True, True) == (found.passed, found.blocking)
    shop.set_rows("state = 'ERROR', error = 'Check small refused a row.'")
    items, orders = sorted(shop.execute("replicated", ("items", "orders")), key=lambda each: each.asset_key)
    assert (False, dg.AssetCheckSeverity.ERROR, True) == (items.passed, items.severity, orders.passed)
    said = items.description or ""
    assert said.startswith("Check small refused a row. To copy table public.items again")
    assert "UPDATE pipeline_tables SET resync = true" in said
    shop.set_rows("resync = true")
    (found,) = shop.execute("replicated")
    assert (False, dg.AssetCheckSeverity.WARN, "The table is still to be copied.") == (
        found.passed, found.severity, found.description,
    )  # fmt: skip


def test_drift_is_of_its_own_table_with_the_statement_that_ends_it(
    shop: Shop, source: Database, destination: Database
) -> None:
    (found,) = shop.execute("schema_drift", ["orders"])
    assert found.passed
    source.run(
        "ALTER TABLE orders ALTER note TYPE text",
        "ALTER TABLE orders ADD price numeric(10,2)",
        "CREATE TYPE mood AS ENUM ()",
    )
    source.run("ALTER TABLE items ADD mood mood")
    destination.run("ALTER TABLE orders ADD old int", "CREATE TYPE mood AS ENUM ()", "ALTER TABLE items ADD mood mood")
    items, found = sorted(shop.execute("schema_drift", ("items", "orders")), key=lambda each: each.asset_key)
    assert (True, False, dg.AssetCheckSeverity.WARN) == (items.passed, found.passed, found.severity)
    statements = str(found.metadata["statements"].value)
    for statement in (
        'ALTER TABLE "public"."orders" ALTER COLUMN "note" TYPE text;',
        'ALTER TABLE "public"."orders" ADD COLUMN "price" numeric(10,2);',
        'ALTER TABLE "public"."orders" DROP COLUMN "old";',
    ):
        assert statement in statements
    assert 3 == found.metadata["differences"].value

    destination.run("ALTER TABLE orders ALTER old SET NOT NULL", "DROP TABLE items")
    items, found = sorted(shop.execute("schema_drift", ("items", "orders")), key=lambda each: each.asset_key)
    assert dg.AssetCheckSeverity.ERROR is found.severity
    assert 'CREATE TABLE IF NOT EXISTS "public"."items"' in str(items.metadata["statements"].value)


def test_missing_rows_are_reported_beyond_the_tolerance(shop: Shop, destination: Database) -> None:
    destination.run("DELETE FROM items WHERE id <= 10")
    assert shop.execute("row_count")[0].passed
    destination.run("DELETE FROM items WHERE id <= 20")
    (found,) = shop.execute("row_count")
    assert not found.passed
    assert "public.items has 980 rows" in (found.description or "")
    assert (1000, 980, -20) == tuple(
        found.metadata[name].value for name in ("source_rows", "destination_rows", "difference")
    )
    with shop.store.connected() as connection:
        connection.execute("""UPDATE pipelines SET thresholds = '{"row_count_tolerance": 0.02}'""")
    assert shop.execute("row_count")[0].passed


def test_a_table_that_is_still_to_be_copied_is_not_called_different(shop: Shop, destination: Database) -> None:
    destination.run("DROP TABLE items")
    for state in ("SNAPSHOT", "PENDING"):
        shop.set_rows(f"state = '{state}'")
        for check in ("schema_drift", "row_count"):
            assert [True, True] == [each.passed for each in shop.execute(check, ("items", "orders"))]


def test_what_cannot_be_inspected_fails_the_check_with_the_reason(shop: Shop) -> None:
    with shop.store.connected() as connection:
        connection.execute('UPDATE destinations SET config = config || \'{"port": 1, "password": "p"}\'')
    (found,) = shop.execute("row_count")
    assert "cannot be reached" in (found.description or "")
    assert shop.execute("replicated")[0].passed

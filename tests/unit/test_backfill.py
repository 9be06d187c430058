"""How a backfill reads the keys of its rows, and how it says how far it is."""

from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import DestinationConfig
from rosetta_dagster.cdc.reconcile.backfill import Backfill, refusal
from rosetta_dagster.cdc.reconcile.sql import keys_after, own_rows
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.table import backfill_line
from tests.support.changes import table

ITEMS = table("id", "name")
ROWS = own_rows(ITEMS.id, is_partitioned=False, row_filter="(\nid > 5 -- new\n)")


def text(statement: sql.Composed) -> str:
    return statement.as_string(None)


def test_keys_are_read_in_their_order_from_the_last_one_on() -> None:
    first = text(keys_after(ROWS, ITEMS, None, 100))
    assert first.startswith(
        'SELECT ARRAY["t"."id"::text]\nFROM (SELECT * FROM ONLY "public"."items" WHERE ((\nid > 5 -- new\n)))'
    )
    assert first.endswith('AS t\nORDER BY "t"."id" LIMIT 100')
    following = text(keys_after(ROWS, ITEMS, ("7",), 100))
    (key_type,) = [column.type for column in ITEMS.columns if column.name == "id"]
    assert f"""\nWHERE ("t"."id") > ('7'::{key_type})\nORDER BY "t"."id" LIMIT 100""" in following


def test_a_backfill_says_how_far_it_is() -> None:
    done = Backfill(destination="dw", table=TableId("public", "items"), read_count=20_000, brought_count=1, is_complete=True)
    assert "public.items at dw: 20,000 rows read, 1 brought; complete" == backfill_line(done)


def test_a_backfill_of_snowflake_is_refused() -> None:
    assert "PostgreSQL only" in (refusal(DestinationConfig(name="dw", type="SNOWFLAKE", config={}), ITEMS) or "")
    assert refusal(DestinationConfig(name="archive", type="POSTGRES", config={}), ITEMS) is None

from dataclasses import replace

import pytest
from psycopg import sql as psycopg_sql

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.change.types import EnumType
from rosetta_dagster.cdc.destination.postgres import merge_sql, sql, state_sql
from rosetta_dagster.cdc.destination.postgres.catalog import StagingType, Unassignable, View
from rosetta_dagster.cdc.destination.postgres.merge_sql import Staging
from rosetta_dagster.cdc.destination.postgres.types_sql import add_labels
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import column, table

TARGET = TableId("mirror", "items")
ITEMS = TableSchema(
    id=TableId("public", "items"),
    columns=(
        column("price", "numeric(12,2)", oid=1700),
        column("id", "bigint", oid=20, not_null=True),
        column("body", "text"),
        column("region", "character varying(8)", oid=1043, not_null=True),
    ),
    key=("region", "id"),
    identity=Identity.KEY,
)
STAGE = Staging("stage")
KEYLESS = table("a", "b", key=())
STRANGE = table('a"b', "Order", key=('a"b',))


def text(statement: psycopg_sql.Composable) -> str:
    return statement.as_string(None)


def optional_text(statement: psycopg_sql.Composable | None) -> str:
    assert statement is not None
    return text(statement)


def test_a_namespace_is_made_when_it_is_missing() -> None:
    assert 'CREATE SCHEMA IF NOT EXISTS "Mirror"' == text(sql.create_namespace("Mirror"))


def test_a_table_is_made_with_the_columns_types_and_key_of_the_source() -> None:
    expected = """\
CREATE TABLE IF NOT EXISTS "mirror"."items" (
    "price" numeric(12,2),
    "id" bigint NOT NULL,
    "body" text,
    "region" character varying(8) NOT NULL,
    PRIMARY KEY ("region", "id")
)"""
    assert expected == text(sql.create_table(TARGET, ITEMS))


def test_a_table_without_a_key_is_made_without_one() -> None:
    expected = 'CREATE TABLE IF NOT EXISTS "mirror"."items" (\n    "a" text,\n    "b" text\n)'
    assert expected == text(sql.create_table(TARGET, KEYLESS))


def test_the_key_is_set_in_the_place_of_another_one() -> None:
    assert 'ALTER TABLE "mirror"."items" ADD PRIMARY KEY ("a""b")' == text(sql.set_primary_key(TARGET, None, STRANGE.key))
    expected = 'ALTER TABLE "mirror"."items" DROP CONSTRAINT "old key", ADD PRIMARY KEY ("region", "id")'
    assert expected == text(sql.set_primary_key(TARGET, "old key", ITEMS.key))


def test_names_are_quoted_and_their_quotes_doubled() -> None:
    expected = """\
CREATE TABLE IF NOT EXISTS "S.x"."T""y" (
    "a""b" text NOT NULL,
    "Order" text,
    PRIMARY KEY ("a""b")
)"""
    assert expected == text(sql.create_table(TableId("S.x", 'T"y'), STRANGE))


def test_an_added_column_may_hold_null_even_if_the_source_forbids_it() -> None:
    added = column("added", "integer[]", oid=1007, not_null=True)
    expected = 'ALTER TABLE "mirror"."items" ADD COLUMN "added" integer[]'
    assert expected == text(sql.add_column(TARGET, added))


def test_what_older_rows_hold_in_an_added_column_is_no_default_of_later_ones() -> None:
    added = replace(column("it's", "integer"), fill_value="it's")
    expected = (
        'ALTER TABLE "mirror"."items" ADD COLUMN "it\'s" integer DEFAULT \'it\'\'s\'::text::integer;'
        ' ALTER TABLE "mirror"."items" ALTER COLUMN "it\'s" DROP DEFAULT'
    )
    assert expected == text(sql.add_column(TARGET, added))


def test_a_table_is_emptied_without_touching_others() -> None:
    assert 'TRUNCATE "mirror"."items"' == text(sql.truncate(TARGET))


def test_copied_rows_name_their_columns() -> None:
    expected = 'COPY "mirror"."items" ("price", "id", "body", "region") FROM STDIN'
    assert expected == text(sql.copy_into(TARGET, ITEMS))


def test_a_staging_table_has_a_column_for_each_of_the_source_by_number() -> None:
    expected = """\
CREATE TEMPORARY TABLE "stage" (
    op "char" DEFAULT 'u', unchanged text, copies bigint, "c0" text, "c1" bigint, "c2" bytea
) ON COMMIT DELETE ROWS;
ALTER TABLE pg_temp."stage" ALTER "c0" SET STORAGE EXTERNAL, ALTER "c2" SET STORAGE EXTERNAL"""
    types = [StagingType("text", True), StagingType("bigint", False), StagingType("bytea", True)]
    assert expected == text(merge_sql.create_staging(Staging("stage", types)))


def test_a_staging_table_without_large_values_is_left_as_it_is() -> None:
    assert text(merge_sql.create_staging(Staging("stage", [StagingType("bigint", False)]))).endswith("ON COMMIT DELETE ROWS")


def test_a_staging_table_is_filled_emptied_and_dropped_by_its_own_name() -> None:
    assert 'COPY pg_temp."stage" ("op", "c0", "c1") FROM STDIN' == text(
        merge_sql.copy_into_staging(STAGE, ["op", "c0", "c1"])
    )
    assert 'TRUNCATE pg_temp."stage"' == text(merge_sql.empty_staging(STAGE))
    assert 'DROP TABLE IF EXISTS pg_temp."stage"' == text(merge_sql.drop_staging("stage"))


def test_rows_are_deleted_by_every_column_of_the_key() -> None:
    expected = """\
DELETE FROM "mirror"."items" AS t
USING pg_temp."stage" AS s
WHERE s.op = 'd' AND "t"."region" = "s"."c3" AND "t"."id" = "s"."c1\""""
    assert expected == text(merge_sql.delete_by_key(TARGET, STAGE, ITEMS))


def test_whole_rows_are_inserted_or_replace_what_has_their_key() -> None:
    expected = """\
INSERT INTO "mirror"."items" AS t ("price", "id", "body", "region")
OVERRIDING SYSTEM VALUE
SELECT "s"."c0", "s"."c1", "s"."c2", "s"."c3"
FROM pg_temp."stage" AS s WHERE s.op = 'u' ORDER BY "s"."c3", "s"."c1"
ON CONFLICT ("region", "id") DO UPDATE SET "price" = EXCLUDED."price", "body" = EXCLUDED."body\""""
    assert expected == text(merge_sql.upsert(TARGET, STAGE, ITEMS))


def test_a_row_that_is_nothing_but_key_is_left_alone_when_it_exists() -> None:
    found = text(merge_sql.upsert(TARGET, STAGE, table("b", "a", key=("a", "b"))))
    assert 'ON CONFLICT ("a", "b") DO NOTHING' == found.splitlines()[-1]


def test_a_row_sent_in_part_keeps_what_was_not_sent() -> None:
    expected = """\
UPDATE "mirror"."items" AS t SET "price" = "s"."c0", \
"body" = CASE substr(s.unchanged, 3, 1) WHEN '1' THEN "t"."body" ELSE "s"."c2" END
FROM pg_temp."stage" AS s
WHERE s.op = 'p' AND "t"."region" = "s"."c3" AND "t"."id" = "s"."c1\""""
    assert expected == optional_text(merge_sql.update_in_part(TARGET, STAGE, ITEMS, {2}))


def test_the_digit_of_a_column_is_counted_from_one() -> None:
    found = optional_text(merge_sql.update_in_part(TARGET, STAGE, ITEMS, {0}))
    assert '"price" = CASE substr(s.unchanged, 1, 1) WHEN \'1\' THEN "t"."price" ELSE "s"."c0" END' in found
    assert '"body" = "s"."c2"' in found


def test_a_moved_row_gets_what_was_sent_and_is_found_by_its_old_key() -> None:
    row = (b"9.5", b"2", UNCHANGED, b"north")
    expected = """\
UPDATE "mirror"."items" SET "price" = '9.5'::text::numeric(12,2), "id" = '2'::text::bigint, \
"region" = 'north'::text::character varying(8)
WHERE "region" = 'south'::text::character varying(8) AND "id" = '1'::text::bigint"""
    assert expected == text(merge_sql.move(TARGET, ITEMS, (b"south", b"1"), row))


def test_a_moved_row_may_have_a_quote_in_its_values_and_a_percent_sign_in_its_names() -> None:
    found = text(merge_sql.move(TARGET, table("id", "share %"), (b"1",), (b"it's", b"10 %")))
    assert "\"id\" = 'it''s'::text::text, \"share %\" = '10 %'::text::text" in found


def test_rows_without_a_key_are_inserted_as_often_as_they_came() -> None:
    expected = """\
INSERT INTO "mirror"."items" ("a", "b")
OVERRIDING SYSTEM VALUE
SELECT "s"."c0", "s"."c1"
FROM pg_temp."stage" AS s, generate_series(1, s.copies)
WHERE s.op = 'u'"""
    assert expected == text(merge_sql.insert_copies(TARGET, STAGE, KEYLESS))


def test_rows_without_a_key_are_deleted_by_their_text_as_often_as_they_went() -> None:
    expected = """\
DELETE FROM "mirror"."items" WHERE (tableoid, ctid) IN (
    SELECT "relation", "place" FROM (
        SELECT t.tableoid AS "relation", t.ctid AS "place", s.copies,
               row_number() OVER (PARTITION BY s.ctid ORDER BY t.tableoid, t.ctid) AS number
        FROM pg_temp."stage" AS s JOIN "mirror"."items" AS t ON \
ROW("t"."a", "t"."b")::text = ROW("s"."c0", "s"."c1")::text
        WHERE s.op = 'd'
    ) AS found WHERE number <= copies)"""
    assert expected == text(merge_sql.delete_copies(TARGET, STAGE, KEYLESS))


def test_a_wide_staging_table_holds_the_values_of_a_row_as_one_array_of_texts() -> None:
    types = [StagingType("numeric(12,2)", False, "numeric"), StagingType("bigint", False, "bigint")]
    stage = Staging("stage", types, is_wide=True)
    assert "copies bigint, cells text[]" in text(merge_sql.create_staging(stage))
    found = text(merge_sql.upsert(TARGET, stage, table("a", "b", key=("b",))))
    assert "SELECT s.cells[1]::numeric, s.cells[2]::bigint" in found
    assert "ORDER BY s.cells[2]::bigint" in found


def test_columns_that_the_destination_generates_are_never_written() -> None:
    fixed = Unassignable(generated=frozenset({"price"}))
    found = text(merge_sql.upsert(TARGET, STAGE, ITEMS, fixed))
    assert "price" not in found
    assert 'SELECT "s"."c1", "s"."c2", "s"."c3"' in found
    assert "price" not in optional_text(merge_sql.update_in_part(TARGET, STAGE, ITEMS, {2}, fixed))
    assert "price" not in text(merge_sql.move(TARGET, ITEMS, (b"south", b"1"), (b"9.5", b"2", UNCHANGED, b"north"), fixed))
    assert merge_sql.reinsert_with_identity(TARGET, STAGE, ITEMS, fixed) is None


def test_rows_with_another_identity_are_inserted_again() -> None:
    fixed = Unassignable(identity=frozenset({"price"}))
    assert '"price" = EXCLUDED' not in text(merge_sql.upsert(TARGET, STAGE, ITEMS, fixed))
    assert """\
WITH deleted ("price", "id", "body", "region") AS (
    DELETE FROM "mirror"."items" AS t USING pg_temp."stage" AS s
    WHERE s.op IN ('u', 'p') AND "t"."region" = "s"."c3" AND "t"."id" = "s"."c1" AND ("t"."price" IS DISTINCT FROM "s"."c0")
    RETURNING "s"."c0", "t"."id", "t"."body", "t"."region"
)
INSERT INTO "mirror"."items" ("price", "id", "body", "region")
OVERRIDING SYSTEM VALUE
SELECT "price", "id", "body", "region" FROM deleted""" == optional_text(
        merge_sql.reinsert_with_identity(TARGET, STAGE, ITEMS, fixed)
    )


def test_views_are_created_again_around_a_change_of_type() -> None:
    views = [View(TableId("public", "v"), False, " SELECT a;"), View(TableId("public", "m"), True, " SELECT b;")]
    assert (
        'BEGIN; DROP MATERIALIZED VIEW "public"."m"; DROP VIEW "public"."v"; '
        'ALTER TABLE "mirror"."items" ALTER COLUMN "price" TYPE numeric(12,2); '
        'CREATE VIEW "public"."v" AS SELECT a; CREATE MATERIALIZED VIEW "public"."m" AS SELECT b; COMMIT;'
    ) == text(sql.change_type_under_views(TARGET, ITEMS.columns[0], views))


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["a", "b", "c"], []),
        (["a", "c"], ["ADD VALUE IF NOT EXISTS 'b' AFTER 'a'"]),
        (["b", "c"], ["ADD VALUE IF NOT EXISTS 'a' BEFORE 'b'"]),
        (["c"], ["ADD VALUE IF NOT EXISTS 'a' BEFORE 'c'", "ADD VALUE IF NOT EXISTS 'b' AFTER 'a'"]),
        ([], ["ADD VALUE IF NOT EXISTS 'a'", "... 'b' AFTER 'a'", "... 'c' AFTER 'b'"]),
        (["x", "c"], ["ADD VALUE IF NOT EXISTS 'a' BEFORE 'c'", "... 'b' AFTER 'a'"]),
    ],
)
def test_labels_are_added_where_they_are_at_the_source(present: list[str], expected: list[str]) -> None:
    mood = EnumType(namespace="public", name="mood", labels=("a", "b", "c"))
    found = [text(statement) for statement in add_labels(mood, present)]
    assert [f'ALTER TYPE "public"."mood" {each.replace("...", "ADD VALUE IF NOT EXISTS")}' for each in expected] == found


def test_a_table_is_asked_for_its_rows() -> None:
    assert 'SELECT EXISTS (SELECT FROM "mirror"."items")' == text(sql.any_row(TARGET))
    assert 'SELECT count(*) FROM "mirror"."items"' == text(sql.count_rows(TARGET))


def test_the_watermark_moves_only_from_the_one_that_is_known_even_when_that_is_none() -> None:
    assert "(transaction_lsn, lsn, ordinal) IS NOT DISTINCT FROM (%s::pg_lsn, %s::pg_lsn, %s::bigint)" in (
        state_sql.MOVE_WATERMARK
    )
    assert 9 == state_sql.MOVE_WATERMARK.count("%s")


def test_a_copy_that_starts_again_is_not_finished() -> None:
    assert "finished_at = NULL, set_aside_at = NULL, set_aside_reason = NULL" in state_sql.START_COPY

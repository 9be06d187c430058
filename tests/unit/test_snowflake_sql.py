from dataclasses import replace
from typing import Any

import pytest

# The driver may be named by the folder that it belongs to, and by its tests.
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Truncate
from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.destination.snowflake import sql, state_sql
from rosetta_dagster.cdc.destination.snowflake.columns import PresentColumn
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.errors import Translation, translate, translated
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, layout_of
from rosetta_dagster.cdc.destination.snowflake.loader import is_direct
from rosetta_dagster.cdc.destination.snowflake.names import Names
from rosetta_dagster.cdc.destination.snowflake.staged import Moves, grouped, staged_rows, unsent
from rosetta_dagster.cdc.destination.snowflake.types import Form, Target
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, DestinationUnavailable
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import column, row


def layout(*columns: Column, key: tuple[str, ...] = ("id",), target: TableId | None = None, **config: Any) -> Layout:
    schema = TableSchema(id=TableId("public", "order"), columns=columns, key=key, identity=Identity.KEY)
    settings = {"account": "a", "user": "u", "database": "d", "private_key_env": "ROSETTA_SECRET_K", **config}
    return layout_of(schema, target or schema.id, SnowflakeDestinationConfig.model_validate(settings))


ID = column("id", "integer", oid=23)
NAME = column("name")
DOCUMENT = column("select", "json", oid=114)
ORDERS = layout(ID, NAME, DOCUMENT)
SOFT = layout(ID, NAME, deletes="soft")
NOTES = layout(NAME, DOCUMENT, key=())


def test_names_are_in_upper_case_unless_they_need_quotes_or_the_case_is_kept() -> None:
    assert ["ORDERS", "Order Lines", "größe", "_X1$", "1st"] == [
        Names().of(name) for name in ("orders", "Order Lines", "größe", "_x1$", "1st")
    ]
    assert "Orders" == Names(preserve_case=True).of("Orders")


def test_names_that_differ_by_case_only_are_refused_unless_it_is_kept() -> None:
    with pytest.raises(DestinationRejected, match=r"public\.order .*: A\..*preserve_case"):
        layout(column("a"), column("A"), key=())
    assert ("a", "A") == layout(column("a"), column("A"), key=(), preserve_case=True).columns


def test_a_column_that_is_called_like_the_mark_of_deleted_rows_is_refused() -> None:
    with pytest.raises(DestinationRejected, match="DELETED_AT"):
        layout(ID, column("deleted_at"), deletes="soft", deleted_at_column="DELETED_AT")


def test_a_table_is_made_with_its_key_and_reserved_words_are_quoted() -> None:
    expected = (
        'CREATE TABLE IF NOT EXISTS "PUBLIC"."ORDER" (\n    "ID" NUMBER(10,0) NOT NULL,\n    "NAME" VARCHAR,\n'
        '    "SELECT" VARIANT,\n    PRIMARY KEY ("ID")\n)'
    )
    assert expected == sql.create_table(ORDERS)
    assert '    "_ROSETTA_DELETED_AT" TIMESTAMP_TZ(6),\n' in sql.create_table(SOFT)
    assert 'ADD COLUMN IF NOT EXISTS "A""B" VARCHAR' in sql.add_column(TableId("P", "T"), 'A"B', "VARCHAR")


def test_a_staging_table_has_columns_of_its_own_and_json_as_text() -> None:
    expected = (
        "CREATE OR REPLACE TRANSIENT TABLE ROSETTA.S (\n    STEP NUMBER(10,0),\n    OP VARCHAR COLLATE '',\n"
        "    UNCHANGED VARCHAR,\n    COPIES NUMBER(19,0),\n    C0 NUMBER(10,0),\n    C1 VARCHAR,\n    C2 VARCHAR,\n"
        "    K0 NUMBER(10,0)\n) DATA_RETENTION_TIME_IN_DAYS = 0"
    )
    assert expected == sql.create_staging("ROSETTA.S", ORDERS)


def test_files_are_loaded_by_name_and_once() -> None:
    expected = (
        "COPY INTO ROSETTA.S FROM @ROSETTA.STAGE/P/1/\n"
        "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE USE_VECTORIZED_SCANNER = TRUE BINARY_AS_TEXT = FALSE "
        "NULL_IF = ())\n"
        "MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT PURGE = TRUE"
    )
    assert expected == sql.copy_into("ROSETTA.S", "ROSETTA.STAGE/P/1/")
    assert "FORCE" not in expected


def test_a_merge_upserts() -> None:
    expected = (
        'MERGE INTO "PUBLIC"."ORDER" AS T USING (SELECT * FROM ROSETTA.S WHERE STEP = 0) AS S\n'
        'ON T."ID" = S.C0\n'
        "WHEN MATCHED AND S.OP = 'u' THEN UPDATE SET \"NAME\" = S.C1, \"SELECT\" = TRY_PARSE_JSON(S.C2, 'd')\n"
        'WHEN NOT MATCHED AND S.OP = \'u\' THEN INSERT ("ID", "NAME", "SELECT") '
        "VALUES (S.C0, S.C1, TRY_PARSE_JSON(S.C2, 'd'))"
    )
    assert expected == sql.merge(ORDERS, "ROSETTA.S", 0, (), in_part=False, deletes=False)


def test_a_merge_leaves_values_alone_that_were_not_sent_and_writes_null_beside_them() -> None:
    merge = sql.merge(ORDERS, "ROSETTA.S", 3, {1}, in_part=True, deletes=True)
    clause = (
        "WHEN MATCHED AND S.OP = 'p' THEN UPDATE SET "
        '"NAME" = IFF(SUBSTR(S.UNCHANGED, 2, 1) = \'1\', T."NAME", S.C1), "SELECT" = TRY_PARSE_JSON(S.C2, \'d\')\n'
    )
    assert clause in merge
    assert "COALESCE" not in merge
    assert "WHEN MATCHED AND S.OP = 'd' THEN DELETE\n" in merge


def test_a_table_that_is_all_key_is_never_updated() -> None:
    assert "UPDATE" not in sql.merge(layout(ID), "ROSETTA.S", 0, {0}, in_part=True, deletes=True)


def test_soft_deletes_mark_rows_and_a_row_that_comes_again_is_not_marked() -> None:
    merge = sql.merge(SOFT, "ROSETTA.S", 0, (), in_part=False, deletes=True)
    now = "CURRENT_TIMESTAMP()::TIMESTAMP_TZ(6)"
    assert f"S.OP = 'd' THEN UPDATE SET \"_ROSETTA_DELETED_AT\" = {now}\n" in merge
    assert '"NAME" = S.C1, "_ROSETTA_DELETED_AT" = NULL\n' in merge
    assert f'UPDATE "PUBLIC"."ORDER" SET "_ROSETTA_DELETED_AT" = {now} WHERE "_ROSETTA_DELETED_AT" IS NULL' == sql.truncate(
        SOFT
    )
    assert 'DELETE FROM "PUBLIC"."ORDER"' == sql.truncate(ORDERS)


def test_a_move_finds_the_row_by_its_old_key() -> None:
    expected = (
        'UPDATE "PUBLIC"."ORDER" AS T SET "ID" = S.C0, "NAME" = IFF(SUBSTR(S.UNCHANGED, 2, 1) = \'1\', T."NAME", S.C1), '
        '"SELECT" = TRY_PARSE_JSON(S.C2, \'d\')\nFROM ROSETTA.S AS S\nWHERE S.STEP = 2 AND T."ID" = S.K0'
    )
    assert [expected] == sql.move(ORDERS, "ROSETTA.S", 2, {1})
    assert 3 == len(sql.move(SOFT, "ROSETTA.S", 2, {1}))


def test_rows_whose_key_is_not_staged_are_deleted() -> None:
    expected = (
        'DELETE FROM "PUBLIC"."ORDER" AS T USING (\n'
        '    SELECT T."ID" FROM "PUBLIC"."ORDER" AS T LEFT JOIN ROSETTA.S AS S ON T."ID" = S.C0\n'
        '    WHERE S.C0 IS NULL\n) AS G\nWHERE T."ID" = G."ID"'
    )
    assert expected == sql.delete_others(ORDERS, "ROSETTA.S")


def test_columns_that_come_are_filled_from_one_staged_row() -> None:
    expected = 'UPDATE "PUBLIC"."ORDER" AS T SET "NAME" = S.C1\nFROM ROSETTA.S AS S\nWHERE S.OP = \'f\''
    assert expected == sql.fill(ORDERS, "ROSETTA.S", [1])


def test_columns_are_written_under_the_names_that_they_have_by_now() -> None:
    schema = TableSchema(id=TableId("p", "t"), columns=(replace(NAME, number=2),), key=(), identity=Identity.FULL)
    settings = {"account": "a", "user": "u", "database": "d", "private_key_env": "ROSETTA_SECRET_K"}
    config = SnowflakeDestinationConfig.model_validate(settings)
    assert ("LABEL",) == layout_of(schema, schema.id, config, {2: "label"}).columns
    assert ("NAME",) == layout_of(schema, schema.id, config, {1: "label"}).columns


@pytest.mark.parametrize(
    ("present", "target", "holds", "can_become"),
    [
        (PresentColumn("A", "NUMBER(10,0)", 10, 0), "NUMBER(19,0)", False, True),
        (PresentColumn("A", "NUMBER(38,0)", 38, 0), "NUMBER(19,0)", True, False),
        (PresentColumn("A", "NUMBER(10,2)", 10, 2), "NUMBER(19,0)", False, False),
        (PresentColumn("A", "NUMBER(10,0)", 10, 0), "VARCHAR", False, False),
        (PresentColumn("A", "VARCHAR"), "VARCHAR", True, False),
    ],
)
def test_snowflake_adds_digits_before_the_point_only(
    present: PresentColumn, target: str, holds: bool, can_become: bool
) -> None:
    wanted = Target(type=target, form=Form.TEXT)
    assert (holds, can_become) == (present.holds(wanted), present.can_become(wanted))


def test_keys_of_json_are_compared_by_their_text() -> None:
    table = layout(column("id", "jsonb", oid=3802), NAME)
    merge = sql.merge(table, "ROSETTA.S", 0, (), in_part=False, deletes=False)
    assert 'ON TO_JSON(T."ID") = TO_JSON(PARSE_JSON(S.C0))\n' in merge


def test_equal_rows_without_a_key_are_counted_before_they_are_deleted() -> None:
    keep = sql.keep_copies(NOTES, "ROSETTA.S", 1)
    assert "WHERE STEP = 1 AND OP = 'd' GROUP BY 1, 2" in keep
    assert "WHERE PLACE > COPIES" in keep
    assert 'EQUAL_NULL(T."NAME", S.C0) AND EQUAL_NULL(TO_JSON(T."SELECT"), S.C1)' in keep
    assert "S.OP = 'd' AND EQUAL_NULL" in sql.delete_copies(NOTES, "ROSETTA.S", 1)
    assert "S.STEP = 1 AND S.OP IN ('u', 'k')" in sql.insert_copies(NOTES, "ROSETTA.S", 1)


def test_the_watermark_moves_only_from_the_known_one() -> None:
    statement = state_sql.move_watermark("ROSETTA.STREAM_A")
    assert "WHERE EQUAL_NULL(TRANSACTION_LSN, CAST(? AS NUMBER(20,0))) AND EQUAL_NULL(LSN, " in statement
    assert 8 == statement.count("?")


def test_a_note_is_made_without_a_warehouse() -> None:
    expected = "COMMENT ON VIEW ROSETTA.NOTED_A IS '18446744073709551615'"
    assert expected == state_sql.note("ROSETTA.NOTED_A", Lsn(2**64 - 1))


def test_files_are_loaded_into_the_table_itself_when_names_and_types_allow() -> None:
    assert is_direct(layout(ID, NAME), present(layout(ID, NAME)))
    assert not is_direct(ORDERS, present(ORDERS)), "JSON has to be parsed"
    assert not is_direct(layout(ID, column("two words")), present(layout(ID, column("two words"))))
    other = layout(ID, target=TableId("p", "two words"))
    assert not is_direct(other, present(other))
    assert not is_direct(layout(ID, NAME), present(layout(ID))), "COPY would leave the values of NAME out"
    converted = {**present(layout(ID, NAME)), "ID": PresentColumn("ID", "FLOAT")}
    assert not is_direct(layout(ID, NAME), converted), "COPY does not validate conversions"
    filled = {**present(layout(ID)), "AT": PresentColumn("AT", "DATE", has_default=True)}
    assert not is_direct(layout(ID), filled), "COPY writes NULL in place of a default"


def present(wanted: Layout) -> dict[str, PresentColumn]:
    return {
        name: PresentColumn(name, target.type, precision=10 if target.type.startswith("NUMBER") else 0)
        for name, target in zip(wanted.columns, wanted.types, strict=True)
    }


def test_independent_moves_are_one_statement_and_dependent_ones_keep_their_order() -> None:
    moves = [Move((old,), (new, UNCHANGED)) for old, new in ((b"1", b"2"), (b"3", b"4"), (b"2", b"5"), (b"6", b"7"))]
    merge = Merge([row("9", "x")], [])
    two = layout(ID, NAME)
    assert [Moves(moves[:2]), Moves(moves[2:]), merge] == grouped([*moves, merge], two)
    assert [Truncate(), Moves(moves[:1]), merge, Moves(moves[1:2])] == grouped([Truncate(), moves[0], merge, moves[1]], two)


def test_each_step_is_staged_under_its_number() -> None:
    two = layout(ID, NAME)
    rows = staged_rows(4, Merge([row("1", "a"), (b"2", UNCHANGED)], [(b"3",)]), two)
    assert [(4, "u"), (4, "p"), (4, "d")] == [(each.step, each.op) for each in rows]
    assert (b"3", None) == rows[2].row
    counted = staged_rows(0, Recount([(row("a"), 2)], [(row("b"), 3)]), layout(NAME, key=()))
    assert [("u", None), ("u", None), ("d", 3)] == [(each.op, each.copies) for each in counted]
    assert frozenset({1}) == unsent([row("1", "a"), (b"2", UNCHANGED)])


WHO = Translation(who="destination dw (r@a/D)", fingerprint="SHA256:abc")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DatabaseError(msg="JWT token is invalid. [1]", errno=390144), ConfigurationError, "clock"),
        (DatabaseError(msg="JWT token is invalid. [1]", errno=390144), ConfigurationError, "SHA256:abc"),
        (DatabaseError(msg="JWT token is invalid. [1]", errno=390144), ConfigurationError, "organization-account"),
        (ProgrammingError(msg="No active warehouse selected", errno=606, sqlstate="57P03"), ConfigurationError, "warehouse"),
        (ProgrammingError(msg="Role 'X' is not granted", errno=390189), ConfigurationError, "Grant the role"),
        (OperationalError(msg="the answer did not come", errno=6), DestinationUnavailable, "did not come"),
        (OperationalError(msg="connection refused", errno=250001), DestinationUnavailable, "connection refused"),
        (ProgrammingError(msg="Session gone", errno=390111), DestinationUnavailable, "restarts by itself"),
        (ProgrammingError(msg="too many waiters", errno=625, sqlstate="57014"), DestinationUnavailable, "625"),
        (DatabaseError(msg="JWT token is invalid.", errno=394304, sqlstate="08001"), ConfigurationError, "SHA256:abc"),
        (DatabaseError(msg="JWT token is invalid.", errno=394302, sqlstate="08001"), ConfigurationError, "60 seconds"),
        (DatabaseError(msg="JWT token is invalid.", errno=394300, sqlstate="08001"), ConfigurationError, "LOGIN_NAME"),
        (
            DatabaseError(msg="Authentication attempt rejected", errno=390202, sqlstate="08001"),
            ConfigurationError,
            "KEYPAIR",
        ),
        (DatabaseError(msg="Network policy is required.", errno=390432, sqlstate="08001"), ConfigurationError, "network"),
        (DatabaseError(msg="Not allowed", errno=390913, sqlstate="08001"), ConfigurationError, "policies"),
        (ProgrammingError(msg="aborted by error 300010", errno=603, sqlstate="XX000"), DestinationUnavailable, "300010"),
        (ProgrammingError(msg="Internal error", errno=200001, sqlstate="22000"), DestinationUnavailable, "200001"),
        (ProgrammingError(msg="Failure using stage area", errno=91003, sqlstate="22000"), DestinationUnavailable, "91003"),
        (ProgrammingError(msg="Remote file not found", errno=91016, sqlstate="22000"), DestinationUnavailable, "91016"),
        (ProgrammingError(msg="'a secret'", errno=370001, sqlstate="XX000"), DestinationUnavailable, "370001"),
        (ProgrammingError(msg="'a secret' is too long", errno=100078), DestinationRejected, "100078"),
        (ProgrammingError(msg="Object 'T' does not exist", errno=2003), DestinationRejected, "'T'"),
        (ProgrammingError(msg="Insufficient privileges", errno=3001, sqlstate="42501"), DestinationRejected, "Grant"),
        (ProgrammingError(msg="Object 'T' does not exist", errno=2003, sqlstate="42S02"), DestinationRejected, "'T'"),
        (ProgrammingError(msg="'a secret' is too long", errno=100078, sqlstate="22000"), DestinationRejected, "100078"),
        (ProgrammingError(msg="'a secret' locked", errno=100038, sqlstate="22018"), DestinationRejected, "100038"),
    ],
)
def test_each_error_is_one_of_ours_and_quotes_no_value(error: Any, kind: type[Exception], said: str) -> None:
    found = translate(error, WHO, "table public.orders")
    assert isinstance(found, kind)
    assert said in str(found)
    assert "a secret" not in str(found)


def test_an_error_of_the_connectors_http_client_is_transient_and_quotes_no_url() -> None:
    with pytest.raises(DestinationUnavailable, match="cannot be reached: ConnectionError") as found, translated(WHO):
        raise ConnectionError("https://account/queries?token=hidden")
    assert "hidden" not in str(found.value)

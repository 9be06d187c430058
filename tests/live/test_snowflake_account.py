"""What only a real Snowflake account can tell: `pytest -m snowflake`. The destination contract runs over it, too.

SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_DATABASE, SNOWFLAKE_PRIVATE_KEY_PATH and SNOWFLAKE_PRIVATE_KEY_PASSPHRASE name
the account, and SNOWFLAKE_WAREHOUSE and SNOWFLAKE_ROLE when the user has none of their own. The role has to be able to
make databases and to suspend the warehouse.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.errors import TooManyWaiters
from rosetta_dagster.cdc.destination.snowflake.keys import generate_key, key_of
from rosetta_dagster.cdc.destination.snowflake.login import with_key
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, DestinationUnavailable, WatermarkMoved
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import insert, table, update
from tests.support.destinations import SnowflakeKind, make
from tests.support.replica import BEGINNING, IDENTITY, ITEMS, NOTES, copy, pages
from tests.support.snowflake_database import SnowflakeDatabase, drop_database, fresh_database, live_config
from tests.support.snowflake_values import FACTS, HELD, TEXTS, apply

pytestmark = [
    pytest.mark.snowflake,
    pytest.mark.skipif(live_config() is None, reason="SNOWFLAKE_ACCOUNT and a key are not set: there is no account to ask"),
    pytest.mark.timeout(600),
]


@pytest.fixture
def database() -> Iterator[SnowflakeDatabase]:
    config = live_config()
    assert config is not None, "else the test is skipped"
    made = fresh_database(config)
    yield made
    drop_database(made)


def opened(database: SnowflakeDatabase, *tables: TableSchema, copied: bool = True, **options: Any) -> Destination:
    case = bool(options.get("preserve_case", False))
    changed = replace(database, config={**database.config, **options})
    destination = make(SnowflakeKind(changed, preserve_case=case), tables)
    destination.open(IDENTITY)
    destination.prepare(tables)
    if copied:
        copy(destination, tables)
    return destination


def test_the_key_is_the_one_that_is_registered(database: SnowflakeDatabase) -> None:
    config = SnowflakeDestinationConfig.model_validate(database.config)
    described = dict(row[:2] for row in database.rows(f'DESC USER "{config.user.upper()}"'))
    registered = {described.get("RSA_PUBLIC_KEY_FP"), described.get("RSA_PUBLIC_KEY_2_FP")}
    assert key_of(config).fingerprint in registered


def test_another_key_is_refused_with_what_may_be_wrong(database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rosetta_dagster.cdc.destination.snowflake.destination.log_in_of", lambda _: with_key(generate_key())
    )
    with pytest.raises(ConfigurationError, match=r"390144.*clock"):
        make(SnowflakeKind(database), [ITEMS]).open(IDENTITY)


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_values_arrive_typed(database: SnowflakeDatabase, is_copied: bool) -> None:
    destination = opened(database, FACTS, copied=False)
    if is_copied:
        copy(destination, [FACTS], ("\t".join(text.replace("\\", "\\\\") for text in TEXTS) + "\n").encode())
    else:
        copy(destination, [FACTS])
        apply(destination, 1, insert(FACTS, *TEXTS))
    names = ", ".join(f'"{name.upper()}"' for name in FACTS.column_names).replace('"DOCUMENT"', 'TO_JSON("DOCUMENT")')
    (row,) = database.rows(f'SELECT {names} FROM "PUBLIC".FACTS')
    assert HELD == tuple(bytes(value) if isinstance(value, bytearray) else value for value in row)
    destination.close()


def test_a_file_of_more_than_one_part_is_uploaded(database: SnowflakeDatabase) -> None:
    destination = opened(database, NOTES, copied=False)
    generator = (f"{number:09}{hash(str(number)):x}" * 40 + "\t\\N\n" for number in range(400_000))
    copy(destination, [NOTES], *(line.encode() for line in generator))
    assert [(400_000,)] == database.rows('SELECT COUNT(*) FROM "PUBLIC".NOTES')
    destination.close()


def test_names_that_differ_by_case_only_are_two_when_it_is_kept(database: SnowflakeDatabase) -> None:
    schema = table("id", "ID", "select", key=("id",), name="Order")
    destination = opened(database, schema, preserve_case=True)
    apply(destination, 1, insert(schema, "1", "a", "b"))
    apply(destination, 2, update(schema, "1", UNCHANGED, "c"))
    assert [("1", "a", "c")] == database.rows('SELECT "id", "ID", "select" FROM "public"."Order"')
    destination.close()


def test_of_two_runs_that_write_at_once_one_is_refused(database: SnowflakeDatabase) -> None:
    one = opened(database, NOTES)
    other = opened(database, NOTES, copied=False)
    refused: list[str] = []

    def write(destination: Destination, text: str) -> None:
        try:
            apply(destination, 1, insert(NOTES, text, None))
        except (WatermarkMoved, DestinationUnavailable):
            refused.append(text)

    threads = [threading.Thread(target=write, args=[each, text]) for each, text in ((one, "one"), (other, "other"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(refused)
    assert 1 == len(database.rows('SELECT * FROM "PUBLIC".NOTES'))
    one.close()
    other.close()


def test_a_text_that_looks_like_null_stays_a_text(database: SnowflakeDatabase) -> None:
    destination = opened(database, ITEMS, copied=False)
    copy(destination, [ITEMS], rb"\\N" + b"\t" + rb"\\N" + b"\t" + rb"\N" + b"\n")
    apply(destination, 1, insert(ITEMS, "1", r"\N", None))
    assert [("1", r"\N", None), (r"\N", r"\N", None)] == database.rows(
        'SELECT ID, NAME, SIZE FROM "PUBLIC".ITEMS ORDER BY ID'
    )
    destination.close()


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "streamed"])
def test_an_empty_text_is_loaded(database: SnowflakeDatabase, is_copied: bool) -> None:
    """The manual says of MATCH_BY_COLUMN_NAME that an empty value is an error; Rosetta relies on that it is not."""
    destination = opened(database, ITEMS, copied=False)
    copy(destination, [ITEMS], b"\t\t\\N\n" if is_copied else b"")
    if not is_copied:
        apply(destination, 1, insert(ITEMS, "", "", None))
    assert [("", "", None)] == database.rows('SELECT ID, NAME, SIZE FROM "PUBLIC".ITEMS')
    destination.close()


def test_a_load_that_was_rolled_back_can_be_repeated(database: SnowflakeDatabase) -> None:
    """Whether files that were loaded in a transaction count as loaded after ROLLBACK is open; FORCE holds under both."""
    destination = opened(database, ITEMS, copied=False)
    destination.start_copy([ITEMS], BEGINNING)
    with destination.loader() as loader:
        loader._session.transaction = _rolled_back_once(loader._session.transaction)  # type: ignore[attr-defined]
        loader.load(ITEMS, pages(), [b"1\ta\tx\n"])
    destination.finish_copy(ITEMS)
    assert [("1", "a", "x")] == database.rows('SELECT ID, NAME, SIZE FROM "PUBLIC".ITEMS')
    destination.close()


def _rolled_back_once(transaction: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """A transaction whose first block is rolled back at its end, as when too many statements wait for a table."""
    ends = iter([True])

    @contextmanager
    def wrapped() -> Iterator[None]:
        with transaction():
            yield
            if next(ends, False):
                raise TooManyWaiters("once", "again")

    return wrapped


def test_an_update_that_waits_for_its_table_reads_the_row_again_or_does_not(database: SnowflakeDatabase) -> None:
    """The documentation leaves it open. Rosetta relies on the statement after the wait only: it sees the commit."""
    database.rows("CREATE TABLE LOCKED AS SELECT 0 AS N")
    database.rows("CREATE TABLE WATERMARK AS SELECT 0 AS N")
    other = replace(database)
    database.rows("BEGIN")
    database.rows("UPDATE LOCKED SET N = N + 1")
    database.rows("UPDATE WATERMARK SET N = 1 WHERE N = 0")
    seen: list[int] = []

    def wait_and_compare() -> None:
        other.rows("BEGIN")
        other.rows("UPDATE LOCKED SET N = N + 1")
        seen.append(other.session.change("UPDATE WATERMARK SET N = 2 WHERE N = 0"))
        other.rows("ROLLBACK")

    waiting = threading.Thread(target=wait_and_compare)
    waiting.start()
    waiting.join(20)
    assert [] == seen, "it waits"
    database.rows("COMMIT")
    waiting.join()
    assert [0] == seen
    other.session.close()


def test_a_session_sees_what_was_committed_before_it_was_opened(database: SnowflakeDatabase) -> None:
    destination = opened(database, ITEMS, copied=False)
    copy(destination, [ITEMS], b"1\ta\tx\n")
    apply(destination, 1, update(ITEMS, "1", "b", UNCHANGED))
    assert [("1", "b", "x")] == database.rows('SELECT ID, NAME, SIZE FROM "PUBLIC".ITEMS')
    destination.close()


def test_a_missing_warehouse_is_named(database: SnowflakeDatabase) -> None:
    with pytest.raises((ConfigurationError, DestinationRejected), match="warehouse"):
        opened(database, ITEMS, warehouse="ROSETTA_HAS_NO_SUCH_WAREHOUSE")


def test_a_value_that_is_too_long_for_the_column_is_not_quoted(database: SnowflakeDatabase) -> None:
    database.rows('CREATE TABLE "PUBLIC"."ITEMS" ("ID" VARCHAR NOT NULL, "NAME" VARCHAR(3), "SIZE" VARCHAR)')
    destination = opened(database, ITEMS)
    with pytest.raises(DestinationRejected) as caught:
        apply(destination, 1, insert(ITEMS, "1", "a secret", None))
    assert "a secret" not in str(caught.value)
    destination.close()


def test_json_with_a_key_that_repeats_keeps_the_last_one(database: SnowflakeDatabase) -> None:
    document = replace_type(ITEMS, "size", "json", 114)
    destination = opened(database, document)
    apply(destination, 1, insert(document, "1", "a", '{"a": 1, "a": 2}'))
    assert [('{"a":2}',)] == database.rows('SELECT TO_JSON("SIZE") FROM "PUBLIC".ITEMS')
    destination.close()


def replace_type(schema: TableSchema, name: str, type_: str, oid: int) -> TableSchema:
    columns = tuple(
        replace(each, type=type_, type_oid=oid, base_oid=oid) if each.name == name else each for each in schema.columns
    )
    return TableSchema(id=TableId("public", "items"), columns=columns, key=schema.key, identity=Identity.KEY)


def test_a_note_leaves_the_warehouse_asleep(database: SnowflakeDatabase) -> None:
    destination = opened(database, ITEMS)
    warehouse = database.config.get("warehouse") or database.rows("SELECT CURRENT_WAREHOUSE()")[0][0]
    database.rows(f'ALTER WAREHOUSE "{warehouse}" SUSPEND')
    destination.note(Lsn(4711))
    ((_, state, *_),) = database.rows(f"SHOW WAREHOUSES LIKE '{warehouse}'")
    assert state in ("SUSPENDED", "SUSPENDING")
    destination.close()


@pytest.mark.parametrize("in_transaction", [False, True], ids=["in autocommit", "in a transaction"])
def test_threads_that_share_a_session_run_at_the_same_time(database: SnowflakeDatabase, in_transaction: bool) -> None:
    """A question of speed only. If it fails, `merge_parallelism` gains nothing where it does."""
    if in_transaction:
        database.rows("BEGIN")
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: database.rows("CALL SYSTEM$WAIT(3)"), range(4)))
    took = time.monotonic() - began
    if in_transaction:
        database.rows("ROLLBACK")
    assert took < 9


def test_after_an_error_no_statement_of_the_transaction_is_committed(database: SnowflakeDatabase) -> None:
    database.rows("CREATE TABLE WRITTEN (N NUMBER)")
    database.rows("BEGIN")
    with pytest.raises(DestinationRejected):
        database.rows("SELECT 1 / 0")
    with pytest.raises((DestinationRejected, DestinationUnavailable)):
        database.rows("INSERT INTO WRITTEN VALUES (1)")
    database.rows("ROLLBACK")
    assert [] == database.rows("SELECT N FROM WRITTEN")


def test_what_needs_no_warehouse_leaves_it_asleep(database: SnowflakeDatabase) -> None:
    destination = opened(database, ITEMS)
    warehouse = database.config.get("warehouse") or database.rows("SELECT CURRENT_WAREHOUSE()")[0][0]
    database.rows(f'ALTER WAREHOUSE "{warehouse}" SUSPEND')
    assert {ITEMS.id: 0} == destination.row_counts([ITEMS.id])
    destination.prepare([ITEMS])
    database.rows('TRUNCATE TABLE "PUBLIC".ITEMS')
    database.rows("REMOVE @ROSETTA.STAGE/")
    ((_, state, *_),) = database.rows(f"SHOW WAREHOUSES LIKE '{warehouse}'")
    assert state in ("SUSPENDED", "SUSPENDING")
    destination.close()


def test_texts_that_are_hashed(database: SnowflakeDatabase) -> None:
    """Reconciliation relies on these texts. Each is what PostgreSQL writes for the value."""
    rows = database.rows("""SELECT
        TO_VARCHAR(-0.5::NUMBER(1,1)), TO_VARCHAR(1.5::NUMBER(12,2)), LEFT(TO_VARCHAR(TRUE), 1),
        TO_VARCHAR('0099-01-02'::DATE, 'YYYY-MM-DD'), TO_VARCHAR('01:02:03.4'::TIME(6), 'HH24:MI:SS.FF6'),
        TO_VARCHAR('0001-01-01 00:00:00.000001'::TIMESTAMP_NTZ(6), 'YYYY-MM-DD HH24:MI:SS.FF6'),
        TO_VARCHAR(CONVERT_TIMEZONE('UTC', '2024-02-29 12:00:00.5 +0200'::TIMESTAMP_TZ(6)), 'YYYY-MM-DD HH24:MI:SS.FF6'),
        HEX_ENCODE(TO_BINARY('00FF', 'HEX'), 0), MD5_NUMBER_LOWER64('Snowflake')""")
    assert rows == [(
        "-0.5", "1.50", "t", "0099-01-02", "01:02:03.400000", "0001-01-01 00:00:00.000001", "2024-02-29 10:00:00.500000",
        "00ff", 9203306159527282910,
    )]  # fmt: skip

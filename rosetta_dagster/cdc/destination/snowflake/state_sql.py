"""Builds the statements that read and write a Snowflake destination's state, in its schema ROSETTA."""

from collections.abc import Sequence
from datetime import date

from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.layout import Layout


def create_stream(stream: str) -> str:
    """Create the table of a pipeline's one row: a transaction that writes a row locks its whole table."""
    return f"""CREATE TABLE IF NOT EXISTS {stream} (
    PIPELINE VARCHAR NOT NULL COLLATE '',
    SYSTEM_IDENTIFIER VARCHAR NOT NULL COLLATE '',
    SLOT_NAME VARCHAR NOT NULL COLLATE '',
    ENGINE VARCHAR COLLATE '',
    TRANSACTION_LSN NUMBER(20,0),
    LSN NUMBER(20,0),
    ORDINAL NUMBER(19,0),
    XID NUMBER(10,0),
    UPDATED_AT TIMESTAMP_TZ(6)
) COMMENT = 'The last change that Rosetta applied here. Written in the transaction of the data. Do not change.'"""


def create_fence(fence: str) -> str:
    """Create the table of one row that a run locks before it reads the watermark.

    The lock is of a table of its own: an UPDATE of the watermark that waits for its lock may decide by the old watermark.
    """
    comment = "Locked by the run that writes. Do not change."
    return f"CREATE TABLE IF NOT EXISTS {fence} COMMENT = '{comment}' AS SELECT 0::NUMBER(19,0) AS TURNS"


def take_fence(fence: str) -> str:
    """Wait for the pipeline's other runs. The next statement sees what they have committed."""
    return f"UPDATE {fence} SET TURNS = TURNS + 1"


#: The column of COPIES that was added last, and the table that is created last.
LAST_COLUMN, LAST_TABLE = "TARGET_NAME", "COPIED_RANGES"

#: Found when every state table has every column that this version reads.
CURRENT = frozenset({LAST_TABLE, LAST_COLUMN})

CREATE_COPIES = f"""CREATE TABLE IF NOT EXISTS {sql.SCHEMA}.COPIES (
    PIPELINE VARCHAR NOT NULL COLLATE '',
    TABLE_SCHEMA VARCHAR NOT NULL COLLATE '',
    TABLE_NAME VARCHAR NOT NULL COLLATE '',
    LSN NUMBER(20,0) NOT NULL,
    SNAPSHOT VARCHAR NOT NULL COLLATE '',
    FINISHED_AT TIMESTAMP_TZ(6),
    SOURCE_COLUMNS VARCHAR,
    COLUMN_NAMES VARCHAR,
    SET_ASIDE_AT TIMESTAMP_TZ(6),
    SET_ASIDE_REASON VARCHAR,
    TARGET_SCHEMA VARCHAR,
    TARGET_NAME VARCHAR
) COMMENT = 'The tables that Rosetta copied here, and the point of the stream that each copy stands for.'"""

#: Columns of COPIES that older versions did not create.
LATER_COLUMNS = {
    "SOURCE_COLUMNS": "VARCHAR",
    "COLUMN_NAMES": "VARCHAR",
    "SET_ASIDE_AT": "TIMESTAMP_TZ(6)",
    "SET_ASIDE_REASON": "VARCHAR",
    "TARGET_SCHEMA": "VARCHAR",
    "TARGET_NAME": "VARCHAR",
}

CREATE_COPIED_RANGES = f"""CREATE TABLE IF NOT EXISTS {sql.SCHEMA}.COPIED_RANGES (
    PIPELINE VARCHAR NOT NULL COLLATE '',
    TABLE_SCHEMA VARCHAR NOT NULL COLLATE '',
    TABLE_NAME VARCHAR NOT NULL COLLATE '',
    RELATION_SCHEMA VARCHAR NOT NULL COLLATE '',
    RELATION_NAME VARCHAR NOT NULL COLLATE '',
    FILENODE NUMBER(19,0) NOT NULL,
    FIRST_PAGE NUMBER(19,0) NOT NULL,
    END_PAGE NUMBER(19,0),
    XMIN_SEEN NUMBER(20,0) NOT NULL
) COMMENT = 'The pages of the source that unfinished copies hold already.'"""

CREATE_SUBSTITUTIONS = f"""CREATE TABLE IF NOT EXISTS {sql.SCHEMA}.SUBSTITUTIONS (
    PIPELINE VARCHAR NOT NULL COLLATE '',
    PLACE VARCHAR NOT NULL COLLATE '',
    REASON VARCHAR NOT NULL COLLATE '',
    VALUE_COUNT NUMBER(19,0) NOT NULL,
    WRITTEN_AT TIMESTAMP_TZ(6) NOT NULL
) COMMENT = 'How many values Snowflake could not hold. What is written instead is a policy of the destination.'"""

ADD_SUBSTITUTION = f"INSERT INTO {sql.SCHEMA}.SUBSTITUTIONS SELECT ?, ?, ?, ?, {sql.NOW}"


def unparsed(layout: Layout, staging: str, places: Sequence[str]) -> list[str]:
    """Count the staged documents that Snowflake cannot parse, which become NULL, in each column of documents."""
    return [
        f"SELECT {sql.constant(places[index])} AS PLACE, "
        f"COUNT_IF(C{index} IS NOT NULL AND {target.read(f'C{index}')} IS NULL) AS VALUE_COUNT FROM {staging}"
        for index, target in enumerate(layout.types)
        if target.is_parsed and not target.must_parse
    ]


def add_unparsed(pipeline: str, counts: Sequence[str]) -> str:
    """Record what `unparsed` counts."""
    return (
        f"INSERT INTO {sql.SCHEMA}.SUBSTITUTIONS\n"
        f"SELECT {sql.constant(pipeline)}, PLACE, 'not valid JSON', VALUE_COUNT, {sql.NOW}\n"
        f"FROM ({' UNION ALL '.join(counts)}) AS COUNTED WHERE VALUE_COUNT > 0"
    )


def prune_substitutions(pipeline: str, day: date) -> tuple[str, str]:
    """Sum up the pipeline's counts of before this day as one row for each column and reason; then delete these counts."""
    today, of_pipeline = f"'{day} 00:00:00 +0000'::TIMESTAMP_TZ(6)", f"PIPELINE = {sql.constant(pipeline)}"
    summed = (
        f"INSERT INTO {sql.SCHEMA}.SUBSTITUTIONS\n"
        f"SELECT PIPELINE, PLACE, REASON, SUM(VALUE_COUNT), {today} FROM {sql.SCHEMA}.SUBSTITUTIONS\n"
        f"WHERE {of_pipeline} AND WRITTEN_AT < {today} GROUP BY PIPELINE, PLACE, REASON"
    )
    return (
        summed,
        f"DELETE FROM {sql.SCHEMA}.SUBSTITUTIONS WHERE {of_pipeline} AND WRITTEN_AT < {today}",
    )


def read_stream(stream: str) -> str:
    return f"SELECT SYSTEM_IDENTIFIER, SLOT_NAME, ENGINE, TRANSACTION_LSN, LSN, ORDINAL, XID FROM {stream}"


def add_stream(stream: str) -> str:
    return f"INSERT INTO {stream} (PIPELINE, SYSTEM_IDENTIFIER, SLOT_NAME, UPDATED_AT) SELECT ?, ?, ?, {sql.NOW}"


def move_watermark(stream: str) -> str:
    """Move the watermark only from the value that this run knows, so that two runs can never both write."""
    return (
        f"UPDATE {stream} SET ENGINE = ?, TRANSACTION_LSN = CAST(? AS NUMBER(20,0)), LSN = CAST(? AS NUMBER(20,0)), "
        f"ORDINAL = CAST(? AS NUMBER(19,0)), XID = CAST(? AS NUMBER(10,0)), UPDATED_AT = {sql.NOW}\n"
        "WHERE EQUAL_NULL(TRANSACTION_LSN, CAST(? AS NUMBER(20,0))) AND EQUAL_NULL(LSN, CAST(? AS NUMBER(20,0))) "
        "AND EQUAL_NULL(ORDINAL, CAST(? AS NUMBER(19,0)))"
    )


def identify_stream(stream: str) -> str:
    return f"UPDATE {stream} SET SYSTEM_IDENTIFIER = ?, SLOT_NAME = ? WHERE SLOT_NAME = ''"


def forget_watermark(stream: str) -> str:
    """Forget the watermark and the source: the next one may be another cluster, after a failover or a restore."""
    return (
        f"UPDATE {stream} SET SYSTEM_IDENTIFIER = '', SLOT_NAME = '', ENGINE = NULL, TRANSACTION_LSN = NULL, LSN = NULL, "
        "ORDINAL = NULL, XID = NULL"
    )


def create_note(view: str) -> str:
    """Create the view whose comment is the LSN up to which the slot may be confirmed; older versions have it as its row."""
    return f"CREATE OR REPLACE VIEW {view} AS SELECT NULL::NUMBER(20,0) AS LSN"


def note(view: str, lsn: Lsn | None, watermark: Watermark | None = None) -> str:
    """Store the LSN in the comment of a view: it needs no warehouse, keeps the view's grants, and creates no object.

    The watermark stands beside it: a note is void where the watermark is older, since the table was restored then.
    """
    text = "" if lsn is None else f"{int(lsn)}{'' if watermark is None else _beside(watermark)}"
    return f"COMMENT ON VIEW {view} IS '{text}'"


def _beside(watermark: Watermark) -> str:
    position = watermark.position
    return f" at {int(position.transaction_lsn)} {int(position.lsn)} {position.ordinal}"


def noted(comment: str, watermark: Watermark | None) -> Lsn | None:
    """Return the noted LSN from the comment; None when it is of a later watermark."""
    lsn, _, beside = comment.partition(" at ")
    then = tuple(map(int, beside.split()))
    now = () if watermark is None else watermark.position
    return None if then and (not now or tuple(map(int, now)) < then) else Lsn(int(lsn))


def read_note(view: str) -> str:
    """Read the LSN as older versions noted it: as the row of the view."""
    return f"SELECT LSN FROM {view}"


READ_COPIES = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, LSN, SNAPSHOT, FINISHED_AT IS NOT NULL, SOURCE_COLUMNS, COLUMN_NAMES, "
    "IFF(SET_ASIDE_AT IS NULL, NULL, COALESCE(SET_ASIDE_REASON, '')), TARGET_SCHEMA, TARGET_NAME "
    f"FROM {sql.SCHEMA}.COPIES WHERE PIPELINE = ?"
)

#: A range of which some rows were copied again is stored twice: an INSERT locks nothing, unlike a MERGE.
READ_RANGES = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, RELATION_SCHEMA, RELATION_NAME, FILENODE, FIRST_PAGE, END_PAGE, MIN(XMIN_SEEN) "
    f"FROM {sql.SCHEMA}.COPIED_RANGES WHERE PIPELINE = ? GROUP BY 1, 2, 3, 4, 5, 6, 7"
)

_OF_TABLE = "WHERE PIPELINE = ? AND TABLE_SCHEMA = ? AND TABLE_NAME = ?"

REMOVE_COPY = f"DELETE FROM {sql.SCHEMA}.COPIES {_OF_TABLE}"
ADD_COPY = (
    f"INSERT INTO {sql.SCHEMA}.COPIES (PIPELINE, TABLE_SCHEMA, TABLE_NAME, LSN, SNAPSHOT, SOURCE_COLUMNS, "
    "TARGET_SCHEMA, TARGET_NAME) SELECT ?, ?, ?, CAST(? AS NUMBER(20,0)), ?, ?, ?, ?"
)
RESUME_COPY = f"UPDATE {sql.SCHEMA}.COPIES SET LSN = CAST(? AS NUMBER(20,0)), SNAPSHOT = ? {_OF_TABLE}"
FINISH_COPY = f"UPDATE {sql.SCHEMA}.COPIES SET FINISHED_AT = {sql.NOW} {_OF_TABLE}"
ADD_RANGE = f"INSERT INTO {sql.SCHEMA}.COPIED_RANGES SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
FORGET_RANGES = f"DELETE FROM {sql.SCHEMA}.COPIED_RANGES {_OF_TABLE}"
FORGET_ALL_RANGES = f"DELETE FROM {sql.SCHEMA}.COPIED_RANGES WHERE PIPELINE = ?"
#: Copies from before targets were recorded are of the target that the table has now.
NOTE_TARGET = f"UPDATE {sql.SCHEMA}.COPIES SET TARGET_SCHEMA = ?, TARGET_NAME = ? {_OF_TABLE} AND TARGET_NAME IS NULL"
REMEMBER_COLUMNS = f"UPDATE {sql.SCHEMA}.COPIES SET SOURCE_COLUMNS = ?, COLUMN_NAMES = ? {_OF_TABLE}"
#: Written before columns are renamed: DDL is not transactional, and changes from before it may be delivered again.
ANNOUNCE_NAMES = f"UPDATE {sql.SCHEMA}.COPIES SET COLUMN_NAMES = ? {_OF_TABLE}"
SET_ASIDE = (
    f"UPDATE {sql.SCHEMA}.COPIES SET SET_ASIDE_AT = {sql.NOW}, SET_ASIDE_REASON = ? {_OF_TABLE} AND FINISHED_AT IS NOT NULL"
)
_UNFINISHED = "FINISHED_AT = NULL, SET_ASIDE_AT = NULL, SET_ASIDE_REASON = NULL"
FORGET_COPIES = f"UPDATE {sql.SCHEMA}.COPIES SET {_UNFINISHED} WHERE PIPELINE = ?"
FORGET_COPY = f"UPDATE {sql.SCHEMA}.COPIES SET {_UNFINISHED} {_OF_TABLE}"

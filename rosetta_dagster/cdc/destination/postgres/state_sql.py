"""The statements that read and write a PostgreSQL destination's state, in its schema `rosetta`."""

NAMESPACE = "rosetta"

#: Held until the transaction ends: `IF NOT EXISTS` fails when another pipeline creates the same object at the same moment.
#: The session may have cached that the object is missing; opening a table makes it process invalidations.
LOCK_CREATION = """
SELECT pg_advisory_xact_lock(hashtext('rosetta: what is made when it is missing'));
SELECT FROM pg_namespace LIMIT 0
"""

STATE_TABLES = """
CREATE TABLE IF NOT EXISTS rosetta.streams (
    pipeline           text PRIMARY KEY,
    system_identifier  text NOT NULL,
    slot_name          text NOT NULL,
    engine             text,
    transaction_lsn    pg_lsn,
    lsn                pg_lsn,
    ordinal            bigint,
    xid                bigint,
    noted_lsn          pg_lsn,
    updated_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rosetta.streams IS
    'The last change that Rosetta applied here, per pipeline. Written in the transaction of the data; do not change.';
CREATE TABLE IF NOT EXISTS rosetta.copies (
    pipeline      text NOT NULL REFERENCES rosetta.streams ON DELETE CASCADE,
    table_schema  text NOT NULL,
    table_name    text NOT NULL,
    lsn           pg_lsn NOT NULL,
    snapshot      text NOT NULL,
    finished_at   timestamptz,
    PRIMARY KEY (pipeline, table_schema, table_name)
);
ALTER TABLE rosetta.copies
    ADD COLUMN IF NOT EXISTS source_columns jsonb,
    ADD COLUMN IF NOT EXISTS set_aside_at timestamptz,
    ADD COLUMN IF NOT EXISTS set_aside_reason text,
    ADD COLUMN IF NOT EXISTS target_schema text,
    ADD COLUMN IF NOT EXISTS target_name text,
    ADD COLUMN IF NOT EXISTS target_oid bigint,
    ADD COLUMN IF NOT EXISTS state_oid bigint;
COMMENT ON TABLE rosetta.copies IS
    'The tables that Rosetta copied here, and the point of the source''s stream that each copy is consistent with.';
COMMENT ON COLUMN rosetta.copies.source_columns IS 'The schema of the source table as of its last change applied here.';
COMMENT ON COLUMN rosetta.copies.target_name IS 'The table here, in target_schema, that the copy went into.';
COMMENT ON COLUMN rosetta.copies.target_oid IS 'The OID of that table: another table of its name does not hold the copy.';
COMMENT ON COLUMN rosetta.copies.state_oid IS
    'The OID of rosetta.copies when target_oid was recorded. A restored database has other OIDs.';
COMMENT ON COLUMN rosetta.copies.set_aside_at IS 'Since when changes of the table are left out, until it is copied again.';
CREATE TABLE IF NOT EXISTS rosetta.copied_ranges (
    pipeline         text NOT NULL,
    table_schema     text NOT NULL,
    table_name       text NOT NULL,
    relation_schema  text NOT NULL,
    relation_name    text NOT NULL,
    filenode         bigint NOT NULL,
    first_page       bigint NOT NULL,
    end_page         bigint,
    xmin_seen        bigint NOT NULL,
    PRIMARY KEY (pipeline, table_schema, table_name, relation_schema, relation_name, first_page),
    FOREIGN KEY (pipeline, table_schema, table_name) REFERENCES rosetta.copies ON DELETE CASCADE
);
COMMENT ON TABLE rosetta.copied_ranges IS 'The pages of the source''s tables that unfinished copies hold already.';
"""

#: True when the column exists that was added last.
HAS_OIDS = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rosetta.copies'::regclass AND attname = 'state_oid')
"""

#: The table that has the name of the copy's target now. `to_regclass` fails where the role may not use the namespace.
_TARGET_OID = """(
    SELECT class.oid::bigint FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE namespace.nspname = copy.target_schema AND class.relname = copy.target_name)"""

_STATE_OID = "'rosetta.copies'::regclass::oid::bigint"

#: Whether another table has the name of the copy's target.
_IS_REPLACED = f"COALESCE(copy.state_oid = {_STATE_OID} AND copy.target_oid <> {_TARGET_OID}, false)"

#: Records which tables the targets are, where that is not known: from an older version, or before the database was restored.
RECORD_OIDS = f"""
UPDATE rosetta.copies AS copy SET target_oid = COALESCE({_TARGET_OID}, 0), state_oid = {_STATE_OID}
WHERE pipeline = %s AND target_name IS NOT NULL AND (target_oid IS NULL OR state_oid IS DISTINCT FROM {_STATE_OID})
"""

READ_STREAM = """
SELECT system_identifier, slot_name, noted_lsn::text, engine, transaction_lsn::text, lsn::text, ordinal, xid
FROM rosetta.streams WHERE pipeline = %s
"""

ADD_STREAM = """
INSERT INTO rosetta.streams (pipeline, system_identifier, slot_name) VALUES (%s, %s, %s)
"""

READ_COPIES = """
SELECT table_schema, table_name, lsn::text, snapshot, finished_at IS NOT NULL, source_columns::text,
       CASE WHEN set_aside_at IS NOT NULL THEN COALESCE(set_aside_reason, '') END, target_schema, target_name
FROM rosetta.copies WHERE pipeline = %s
"""

#: The copies whose target was dropped, and has another table in its place.
READ_REPLACED = f"SELECT table_schema, table_name FROM rosetta.copies AS copy WHERE pipeline = %s AND {_IS_REPLACED}"

#: Copies from before targets were recorded are of the target that the table has now.
NOTE_TARGET = """
UPDATE rosetta.copies SET target_schema = %s, target_name = %s
WHERE pipeline = %s AND table_schema = %s AND table_name = %s AND target_name IS NULL
"""

READ_RANGES = """
SELECT table_schema, table_name, relation_schema, relation_name, filenode, first_page, end_page, xmin_seen
FROM rosetta.copied_ranges WHERE pipeline = %s
"""

#: Held until the transaction ends: two pipelines that begin to copy into one table do so one after the other.
LOCK_TARGET = "SELECT pg_advisory_xact_lock(hashtextextended(format('%%I.%%I', %s::text, %s::text), 0))"

#: Another pipeline that writes the target. One that was dropped, or is to be resynced, has no cluster.
READ_WRITER = f"""
SELECT copy.pipeline FROM rosetta.copies AS copy JOIN rosetta.streams AS stream USING (pipeline)
WHERE copy.target_schema = %s AND copy.target_name = %s AND copy.pipeline <> %s AND stream.system_identifier <> ''
  AND NOT {_IS_REPLACED} LIMIT 1
"""

START_COPY = """
INSERT INTO rosetta.copies
    (pipeline, table_schema, table_name, lsn, snapshot, source_columns, target_schema, target_name)
VALUES (%s, %s, %s, %s::pg_lsn, %s, %s::jsonb, %s, %s)
ON CONFLICT (pipeline, table_schema, table_name)
DO UPDATE SET lsn = EXCLUDED.lsn, snapshot = EXCLUDED.snapshot, source_columns = EXCLUDED.source_columns,
              target_schema = EXCLUDED.target_schema, target_name = EXCLUDED.target_name, target_oid = NULL,
              finished_at = NULL, set_aside_at = NULL, set_aside_reason = NULL
"""

RESUME_COPY = """
UPDATE rosetta.copies SET lsn = %s::pg_lsn, snapshot = %s WHERE pipeline = %s AND table_schema = %s AND table_name = %s
"""

FORGET_RANGES = "DELETE FROM rosetta.copied_ranges WHERE pipeline = %s AND table_schema = %s AND table_name = %s"

#: A range of which some rows are copied again is recorded already.
ADD_RANGE = "INSERT INTO rosetta.copied_ranges VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"

FINISH_COPY = """
UPDATE rosetta.copies SET finished_at = now() WHERE pipeline = %s AND table_schema = %s AND table_name = %s
"""

REMEMBER_COLUMNS = """
UPDATE rosetta.copies SET source_columns = %s::jsonb WHERE pipeline = %s AND table_schema = %s AND table_name = %s
"""

SET_ASIDE = """
UPDATE rosetta.copies SET set_aside_at = now(), set_aside_reason = %s
WHERE pipeline = %s AND table_schema = %s AND table_name = %s AND finished_at IS NOT NULL
"""

#: Moves the watermark only from the value that this run knows, so that two runs can never both write.
MOVE_WATERMARK = """
UPDATE rosetta.streams
SET engine = %s, transaction_lsn = %s::pg_lsn, lsn = %s::pg_lsn, ordinal = %s, xid = %s, updated_at = now()
WHERE pipeline = %s AND (transaction_lsn, lsn, ordinal) IS NOT DISTINCT FROM (%s::pg_lsn, %s::pg_lsn, %s::bigint)
"""

#: The same where nobody can look at the number of rows before the commit: a division by zero fails when it is zero.
MOVE_WATERMARK_OR_FAIL = f"WITH moved AS ({MOVE_WATERMARK}RETURNING 1)\nSELECT 1 / count(*) FROM moved"

#: The LSN up to which the slot may be confirmed; written before it is.
NOTE = "UPDATE rosetta.streams SET noted_lsn = greatest(noted_lsn, %s::pg_lsn) WHERE pipeline = %s"

#: The next source may be another cluster, after a failover or a restore.
FORGET_WATERMARK = """
UPDATE rosetta.streams
SET system_identifier = '', slot_name = '', noted_lsn = NULL,
    engine = NULL, transaction_lsn = NULL, lsn = NULL, ordinal = NULL, xid = NULL
WHERE pipeline = %s
"""

FORGET_COPIES = """
UPDATE rosetta.copies SET finished_at = NULL, set_aside_at = NULL, set_aside_reason = NULL WHERE pipeline = %s
"""

FORGET_COPY = f"{FORGET_COPIES} AND table_schema = %s AND table_name = %s"

FORGET_ALL_RANGES = "DELETE FROM rosetta.copied_ranges WHERE pipeline = %s"

#: Ends sessions of this name that are active or in a transaction.
END_LEFTOVERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %s AND state <> 'idle' AND pid <> pg_backend_pid()
  AND usename = current_user AND datname = current_database()
"""

IDENTIFY_STREAM = """
UPDATE rosetta.streams SET system_identifier = %s, slot_name = %s WHERE pipeline = %s AND slot_name = ''
"""

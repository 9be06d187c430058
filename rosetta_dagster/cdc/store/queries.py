"""The statements of the configuration database. Columns of settings come from the models that declare these."""

from psycopg.sql import SQL

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings, TableOptions
from rosetta_dagster.cdc.store.columns import assigned, differs, listed, placeholders, replaced, selected

SHAPES = """
SELECT pipelines.name, pipelines.engine, sources.name, pg_host, pg_port, pg_database, pg_username,
       ARRAY(SELECT ARRAY[destinations.name, destinations.type,
                          (SELECT jsonb_object_agg(key, value) FROM jsonb_each(config) WHERE key = ANY (%(shown)s))::text]
             FROM pipeline_destinations JOIN destinations ON destinations.id = destination_id
             WHERE pipeline_id = pipelines.id ORDER BY destinations.name),
       ARRAY(SELECT ARRAY[table_schema, table_name, target_schema, target_name, by_pattern]
             FROM pipeline_tables WHERE pipeline_id = pipelines.id ORDER BY table_schema, table_name)
FROM pipelines JOIN sources ON sources.id = pipelines.source_id
WHERE %(name)s::text IS NULL OR pipelines.name = %(name)s
ORDER BY pipelines.name
"""

STATES = """
SELECT pipelines.id, pipelines.name, sources.name AS source,
       extract(epoch FROM clock_timestamp() - pipelines.updated_at)::float8 AS unchanged_seconds,
       ARRAY(SELECT destinations.name::text FROM pipeline_destinations
             JOIN destinations ON destinations.id = destination_id
             WHERE pipeline_id = pipelines.id ORDER BY destinations.name) AS destinations,
       (SELECT count(*) FROM pipeline_tables WHERE pipeline_id = pipelines.id) AS table_count,
       ARRAY(SELECT format('%%s.%%s: %%s', table_schema, table_name, error) FROM pipeline_tables
             WHERE pipeline_id = pipelines.id AND state = 'ERROR' AND NOT paused ORDER BY 1) AS table_errors,
       pipelines.status, metadata.status AS run_status, metadata.health_status AS health, metadata.wal_size,
       metadata.wal_status, metadata.slot_action, metadata.slot_action_reason,
       metadata.lag_bytes, metadata.lag_seconds, metadata.last_success_time, metadata.last_error, metadata.failure_count,
       metadata.rows_copied, metadata.rows_applied, metadata.run_id, metadata.inspection_done,
       extract(epoch FROM clock_timestamp() - metadata.heartbeat_at)::float8 AS heartbeat_age,
       COALESCE(metadata.next_attempt_at <= clock_timestamp(), true) AS is_due,
       extract(epoch FROM metadata.next_attempt_at - clock_timestamp())::float8 AS seconds_until_due
FROM pipelines
JOIN sources ON sources.id = pipelines.source_id
JOIN pipeline_metadata AS metadata ON metadata.pipeline_id = pipelines.id
WHERE %(name)s::text IS NULL OR pipelines.name = %(name)s
ORDER BY pipelines.name
"""

TABLES = """
SELECT table_schema, table_name, CASE WHEN paused THEN 'PAUSED' ELSE state END, CASE WHEN NOT paused THEN error END,
       rows_copied, rows_applied, last_change_time, resync, data_version
FROM pipeline_tables JOIN pipelines ON pipelines.id = pipeline_id
WHERE pipelines.name = %s ORDER BY table_schema, table_name
"""

SKIPPED_TABLES = """
SELECT table_schema, table_name, reason FROM pipeline_skipped_tables JOIN pipelines ON pipelines.id = pipeline_id
WHERE pipelines.name = %s ORDER BY table_schema, table_name
"""

PIPELINE = SQL("""
SELECT pipelines.id, pipelines.publication_name, pipelines.replication_name, source_id, {options}
FROM pipelines WHERE pipelines.name = %s
""").format(options=selected(PipelineOptions, "pipelines"))

SOURCE = SQL("SELECT id, name, {} FROM sources WHERE id = %s").format(selected(SourceSettings, "sources"))

LOCK_SOURCE = SQL("{} FOR UPDATE").format(SOURCE)

DESTINATION_CONFIG = "SELECT config FROM destinations WHERE id = %s"

LOCK_DESTINATION = "SELECT type, config FROM destinations WHERE id = %s FOR UPDATE"

SOURCE_BY_NAME = "SELECT id FROM sources WHERE name = %s"

DESTINATION_BY_NAME = "SELECT id, name, type, config FROM destinations WHERE name = %s"

DESTINATIONS = """
SELECT destinations.id, destinations.name, destinations.type, destinations.config
FROM destinations JOIN pipeline_destinations ON destination_id = destinations.id
WHERE pipeline_id = %s ORDER BY destinations.name
"""

PIPELINE_TABLES = SQL("""
SELECT table_schema, table_name, target_schema, target_name, resync, by_pattern, {options}
FROM pipeline_tables WHERE pipeline_id = %s AND paused = %s ORDER BY table_schema, table_name
""").format(options=selected(TableOptions, "pipeline_tables"))

#: The other pipelines on the same server, each with the slot that its row or its source's row names.
NEIGHBOURS = """
SELECT other.name, COALESCE(other.replication_name, other_source.replication_name)
FROM pipelines AS mine
JOIN sources AS my_source ON my_source.id = mine.source_id
JOIN sources AS other_source ON (other_source.pg_host, other_source.pg_port) = (my_source.pg_host, my_source.pg_port)
JOIN pipelines AS other ON other.source_id = other_source.id AND other.id <> mine.id
WHERE mine.id = %s
ORDER BY other.name
"""

#: Only what was read is replaced, in a row that names the same server: an operator may have written it meanwhile.
SEAL_SOURCE = """
UPDATE sources SET pg_password = %(sealed)s
WHERE id = %(id)s AND pg_password = %(clear)s
  AND (pg_host, pg_port, pg_username) = (%(host)s, %(port)s, %(username)s)
  AND pg_sslrootcert IS NOT DISTINCT FROM %(sslrootcert)s
"""

SEAL_DESTINATION = """
UPDATE destinations SET config = jsonb_set(config, ARRAY[%(field)s], to_jsonb(%(sealed)s::text))
WHERE id = %(id)s AND type = %(type)s AND config ->> %(field)s = %(clear)s
  AND config - %(secrets)s::text[] = %(config)s::jsonb - %(secrets)s::text[]
"""

STATUS = "SELECT status FROM pipelines WHERE name = %s"

PIPELINE_OPTIONS = SQL("SELECT {} FROM pipelines WHERE id = %s").format(selected(PipelineOptions, "pipelines"))

#: The hash also differs when a table was taken out and added again in between, with the same settings.
WANTED = SQL("""
SELECT pipelines.status, inspections_requested,
       EXISTS (SELECT FROM pipeline_tables WHERE pipeline_id = pipelines.id AND resync AND NOT paused),
       hashtextextended(jsonb_build_array({options}, (
           SELECT jsonb_agg(jsonb_build_array(id, table_schema, table_name, target_schema, target_name, {table_options})
                            ORDER BY id)
           FROM pipeline_tables WHERE pipeline_id = pipelines.id AND NOT paused
       ), (
           SELECT jsonb_agg(to_jsonb(pattern) ORDER BY id) FROM pipeline_patterns AS pattern WHERE pipeline_id = pipelines.id
       ))::text, 0)
FROM pipelines JOIN pipeline_metadata ON pipeline_id = pipelines.id WHERE pipelines.id = %s
""").format(options=selected(PipelineOptions, "pipelines"), table_options=selected(TableOptions, "pipeline_tables"))

REQUEST_INSPECTION = """
UPDATE pipeline_metadata SET inspections_requested = inspections_requested + 1
FROM pipelines WHERE pipelines.id = pipeline_id AND pipelines.name = %s
RETURNING inspections_requested
"""

ASK_RESYNC = """
UPDATE pipeline_tables SET resync = true FROM pipelines
WHERE pipelines.id = pipeline_id AND pipelines.name = %s AND (table_schema, table_name) = (%s, %s)
"""

PAUSE_TABLE = """
UPDATE pipeline_tables SET paused = %s FROM pipelines
WHERE pipelines.id = pipeline_id AND pipelines.name = %s AND (table_schema, table_name) = (%s, %s)
"""

#: A request that comes after this one is kept.
RESYNC_BEGUN = """
UPDATE pipeline_tables SET resync = false, state = 'PENDING', error = NULL
WHERE pipeline_id = %s AND (table_schema, table_name) = (%s, %s)
"""

SET_STATUS = """
UPDATE pipelines SET status = %(status)s
WHERE name = %(name)s AND (%(only_from)s::text IS NULL OR status = %(only_from)s)
"""

STARTED = """
UPDATE pipeline_metadata
SET status = 'STARTING', run_id = %s, started_at = clock_timestamp(), heartbeat_at = clock_timestamp()
WHERE pipeline_id = %s
"""

#: A run that did not end as it should may not have recorded the last changes that it made.
NEW_DATA_VERSIONS = """
UPDATE pipeline_tables SET data_version = 'as of run ' || %(run_id)s::text FROM pipeline_metadata AS metadata
WHERE pipeline_tables.pipeline_id = %(pipeline_id)s AND metadata.pipeline_id = pipeline_tables.pipeline_id
  AND (data_version IS NULL OR metadata.status <> 'STOPPED')
"""

#: A run that has streamed for a minute has overcome what failed before.
PROGRESS = """
UPDATE pipeline_metadata
SET status = %(run_status)s::text, heartbeat_at = clock_timestamp(),
    applied_lsn = COALESCE(%(applied_lsn)s::pg_lsn, applied_lsn),
    inspection_done = greatest(%(inspection_done)s, inspection_done),
    lag_seconds = COALESCE(%(lag_seconds)s::float8, lag_seconds),
    last_success_time = COALESCE(clock_timestamp() - make_interval(secs => %(success_age)s::float8), last_success_time),
    rows_copied = rows_copied + %(copied)s, rows_applied = rows_applied + %(applied)s,
    batches_applied = batches_applied + %(batches)s, batch_wait_seconds = batch_wait_seconds + %(wait_seconds)s,
    batch_apply_seconds = batch_apply_seconds + %(apply_seconds)s,
    reported_health = CASE WHEN %(run_status)s::text = 'STREAMING' AND reported_health = 'ERROR'
                           THEN 'HEALTHY' ELSE reported_health END,
    last_error = CASE WHEN %(run_status)s::text = 'STREAMING' THEN NULL ELSE last_error END,
    failure_count = CASE WHEN %(run_status)s::text = 'STREAMING' AND started_at < clock_timestamp() - interval '60 seconds'
                         THEN 0 ELSE failure_count END
WHERE pipeline_id = %(pipeline_id)s AND run_id = %(run_id)s
"""

TABLE_PROGRESS = """
UPDATE pipeline_tables
SET state = %(state)s, error = %(error)s, rows_copied = rows_copied + %(copied)s, rows_applied = rows_applied + %(applied)s,
    rows_inserted = rows_inserted + %(inserted)s, rows_updated = rows_updated + %(updated)s,
    rows_deleted = rows_deleted + %(deleted)s, times_truncated = times_truncated + %(truncated)s,
    last_change_time = COALESCE(%(last_change_at)s, last_change_time),
    data_version = COALESCE(%(data_version)s, data_version)
WHERE pipeline_id = %(pipeline_id)s AND table_schema = %(namespace)s AND table_name = %(name)s
"""

#: Transient failures are retried after 5 seconds, then twice as long each time, at most 5 minutes. Each wait is shortened by
#: up to a quarter at random, so that pipelines that failed together do not all come back at once. Other failures are retried
#: after 10 minutes, since a corrected grant or setting changes no row. Triggers end the wait when a row is changed.
FAILED = """
UPDATE pipeline_metadata
SET status = 'FAILED', reported_health = 'ERROR', last_error = %(message)s, last_error_at = clock_timestamp(),
    failure_count = failure_count + 1,
    next_attempt_at = CASE WHEN %(transient)s
        THEN clock_timestamp() + make_interval(secs => least(300, 5 * 2 ^ least(failure_count, 10)) * (1 - random() / 4))
        ELSE clock_timestamp() + interval '10 minutes' * (1 + random() / 10) END
WHERE pipeline_id = %(pipeline_id)s AND (run_id = %(run_id)s::text OR %(run_id)s::text IS NULL)
"""

STOPPED = """
UPDATE pipeline_metadata
SET status = 'STOPPED', failure_count = 0, next_attempt_at = NULL
WHERE pipeline_id = %s AND run_id = %s AND status <> 'FAILED'
"""

SLOT = """
UPDATE pipeline_metadata
SET slot_name = %(slot_name)s, wal_status = %(wal_status)s, confirmed_flush_lsn = %(confirmed_flush_lsn)s::pg_lsn,
    wal_size = %(wal_size)s, wal_size_at = clock_timestamp(), lag_bytes = %(lag_bytes)s, safe_wal_size = %(safe_wal_size)s,
    wal_growth = %(wal_growth)s
WHERE pipeline_id = %(pipeline_id)s
"""

SLOT_ACTION = "UPDATE pipeline_metadata SET slot_action = %s, slot_action_reason = %s WHERE pipeline_id = %s"

WAL_SAMPLE = """
SELECT wal_size, extract(epoch FROM clock_timestamp() - wal_size_at)::float8 FROM pipeline_metadata WHERE pipeline_id = %s
"""

THRESHOLDS = "SELECT thresholds FROM pipelines WHERE name = %s"

HEALTH = "UPDATE pipeline_metadata SET reported_health = %s WHERE pipeline_id = %s"

#: What made these pipelines fail may have been fixed since. Those that wait longer than 5 minutes wait for a person.
RETRY_FAILED = """
UPDATE pipeline_metadata SET next_attempt_at = NULL
FROM pipelines WHERE pipelines.id = pipeline_id AND name = ANY (%s) AND pipeline_metadata.status = 'FAILED'
  AND next_attempt_at - last_error_at > interval '5 minutes'
"""

#: The password follows by itself: its encrypted form depends on the row's id.
PUT_SOURCE = SQL("""
INSERT INTO sources (name, {columns}) VALUES (%(name)s, {values})
ON CONFLICT (name) DO UPDATE SET {replaced}
RETURNING id
""").format(columns=listed(SourceSettings), values=placeholders(SourceSettings), replaced=replaced(SourceSettings))

SET_PASSWORD = "UPDATE sources SET pg_password = %s WHERE id = %s"  # noqa: S105 - a statement

#: The secrets follow by themselves, too, so that none is ever written in clear.
SET_SECRETS = "UPDATE destinations SET config = config || %s WHERE id = %s"

PUT_DESTINATION = """
INSERT INTO destinations (name, type, config) VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET type = EXCLUDED.type, config = EXCLUDED.config
RETURNING id
"""

#: The status of a pipeline that exists is the operator's.
PUT_PIPELINE = SQL("""
INSERT INTO pipelines (name, source_id, status, managed_by, thresholds, {columns})
SELECT %(name)s, id, %(status)s, %(managed_by)s, %(thresholds)s, {values}
FROM sources WHERE name = %(source)s
ON CONFLICT (name) DO UPDATE
SET source_id = EXCLUDED.source_id, managed_by = EXCLUDED.managed_by, thresholds = EXCLUDED.thresholds, {replaced}
RETURNING id
""").format(columns=listed(PipelineOptions), values=placeholders(PipelineOptions), replaced=replaced(PipelineOptions))

PUT_PIPELINE_DESTINATION = """
INSERT INTO pipeline_destinations (pipeline_id, destination_id) SELECT %s, id FROM destinations WHERE name = %s
ON CONFLICT DO NOTHING RETURNING destination_id
"""

DROP_OTHER_DESTINATIONS = """
DELETE FROM pipeline_destinations USING destinations
WHERE destinations.id = destination_id AND pipeline_id = %s AND destinations.name <> ALL (%s)
"""

_INSERT_TABLE = SQL("""
INSERT INTO pipeline_tables AS present (pipeline_id, table_schema, table_name, target_schema, target_name, {columns})
VALUES (%(pipeline_id)s, %(namespace)s, %(name)s, %(target_namespace)s, %(target_name)s, {values})
""").format(columns=listed(TableOptions), values=placeholders(TableOptions))

PUT_PIPELINE_TABLE = SQL("""{insert}
ON CONFLICT (pipeline_id, table_schema, table_name) DO UPDATE
SET target_schema = EXCLUDED.target_schema, target_name = EXCLUDED.target_name, by_pattern = NULL, {replaced}
WHERE (present.target_schema, present.target_name) IS DISTINCT FROM (EXCLUDED.target_schema, EXCLUDED.target_name)
   OR present.by_pattern IS NOT NULL OR {differs}
""").format(insert=_INSERT_TABLE, replaced=replaced(TableOptions), differs=differs(TableOptions, "present"))

#: The row of a pattern becomes the operator's.
ADD_PIPELINE_TABLE = SQL("""{insert}
ON CONFLICT (pipeline_id, table_schema, table_name) DO UPDATE
SET target_schema = EXCLUDED.target_schema, target_name = EXCLUDED.target_name, by_pattern = NULL, {replaced}
WHERE present.by_pattern IS NOT NULL
""").format(insert=_INSERT_TABLE, replaced=replaced(TableOptions))

DELETE_PIPELINE = "DELETE FROM pipelines WHERE name = %s"

DROP_OTHER_TABLES = """
DELETE FROM pipeline_tables
WHERE pipeline_id = %s AND by_pattern IS NULL
  AND (table_schema, table_name) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

DECLARED = SQL("SELECT name, managed_by, publication_name, replication_name, thresholds, {} FROM pipelines").format(
    selected(PipelineOptions, "pipelines")
)

SET_OWN_NAMES = "UPDATE pipelines SET publication_name = %s, replication_name = %s WHERE id = %s"

SET_PIPELINE_OPTIONS = SQL("UPDATE pipelines SET {} WHERE name = %(name)s").format(assigned(PipelineOptions))

#: Those that patterns have made are left out, and the patterns come as tables.
DECLARED_TABLES = SQL("""
SELECT pipelines.name, table_schema, table_name, target_schema, target_name, {options}
FROM pipeline_tables JOIN pipelines ON pipelines.id = pipeline_id WHERE by_pattern IS NULL
UNION ALL
SELECT pipelines.name, table_schema, table_name, target_schema, target_name, options
FROM pipeline_patterns JOIN pipelines ON pipelines.id = pipeline_id
""").format(options=selected(TableOptions, "pipeline_tables"))

#: What is known stays: another process may know more kinds.
ADD_DESTINATION_TYPES = """
INSERT INTO destination_types (type) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING
"""

DESTINATION_TYPES = "SELECT type FROM destination_types"

NOTE_LOCATION = """
UPDATE pipelines SET declared_in = %(location)s
WHERE name = ANY (%(declared)s) AND declared_in IS NULL
"""

FORGET_LOCATION = SQL("UPDATE pipelines SET declared_in = NULL WHERE name = {};")

DECLARED_ELSEWHERE = """
SELECT name, declared_in FROM pipelines
WHERE name = ANY (%(declared)s) AND declared_in <> %(location)s
ORDER BY name
"""

#: Without a location, those that declared these pipelines last.
TO_RELEASE = """
SELECT name, status FROM pipelines
WHERE name <> ALL (%(declared)s)
  AND declared_in IN (SELECT %(location)s::text
                      UNION SELECT declared_in FROM pipelines WHERE %(location)s IS NULL AND name = ANY (%(declared)s))
ORDER BY name
"""

RELEASE_REMOVED = """
UPDATE pipelines SET status = 'PAUSE', managed_by = 'SQL', declared_in = NULL
WHERE declared_in = %(location)s AND name <> ALL (%(declared)s)
RETURNING name
"""

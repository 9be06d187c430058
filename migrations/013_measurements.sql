-- What the exporter of metrics needs beside the state of a pipeline, and how a source's TLS is verified. Every column is added
-- with a default, so that workers of an earlier version go on.

ALTER TABLE sources
    ADD COLUMN pg_sslrootcert      TEXT,
    ADD COLUMN pg_sslcert          TEXT,
    ADD COLUMN pg_sslkey           TEXT,
    ADD COLUMN pg_channel_binding  VARCHAR(20),
    ADD CONSTRAINT source_channel_binding_is_one_of_libpq
        CHECK (pg_channel_binding IN ('disable', 'prefer', 'require')),
    ADD CONSTRAINT source_has_sslcert_and_sslkey_together CHECK ((pg_sslcert IS NULL) = (pg_sslkey IS NULL));
COMMENT ON COLUMN sources.pg_sslrootcert IS
    'A file on the worker, certificates in PEM form, or system. The password is bound to it: enter both together.';
COMMENT ON COLUMN sources.pg_sslkey IS 'A file on the worker; the key itself is never in the row.';

ALTER TABLE pipeline_tables
    ADD COLUMN rows_inserted    BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN rows_updated     BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN rows_deleted     BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN times_truncated  BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN pipeline_tables.rows_inserted IS 'Inserts applied by the stream; copied rows are in rows_copied.';

ALTER TABLE pipeline_progress
    ADD COLUMN failed_runs           BIGINT           NOT NULL DEFAULT 0,
    ADD COLUMN wal_growth            DOUBLE PRECISION,
    ADD COLUMN batches_applied       BIGINT           NOT NULL DEFAULT 0,
    ADD COLUMN batch_wait_seconds    DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN batch_apply_seconds   DOUBLE PRECISION NOT NULL DEFAULT 0;
COMMENT ON COLUMN pipeline_progress.failed_runs IS 'Runs that failed since the pipeline was added; never reset.';
COMMENT ON COLUMN pipeline_progress.wal_growth IS 'Bytes per second by which wal_size grew between its last two readings.';
COMMENT ON COLUMN pipeline_progress.batches_applied IS 'Batches that were made durable, at all destinations.';
COMMENT ON COLUMN pipeline_progress.batch_wait_seconds IS
    'Seconds that the first change of each of these batches waited until it was applied, in total.';
COMMENT ON COLUMN pipeline_progress.batch_apply_seconds IS 'Seconds that the destinations took to apply them, in total.';

CREATE OR REPLACE VIEW pipeline_metadata AS
SELECT pipeline_id, status,
       -- A run writes its heartbeat every two seconds. After START the control sensor has a minute to start one.
       CASE WHEN (SELECT pipelines.status FROM pipelines WHERE pipelines.id = pipeline_id) <> 'PAUSE'
                 AND greatest(heartbeat_at, (SELECT pipelines.updated_at FROM pipelines WHERE pipelines.id = pipeline_id))
                     < clock_timestamp() - interval '60 seconds'
            THEN 'ERROR' ELSE reported_health END::VARCHAR(20) AS health_status,
       wal_size, last_success_time, last_error, last_error_at, slot_name, wal_status, confirmed_flush_lsn, applied_lsn,
       lag_bytes, lag_seconds, rows_copied, rows_applied, run_id, heartbeat_at, started_at, failure_count, next_attempt_at,
       updated_at, safe_wal_size, wal_size_at, reported_health,
       failed_runs, wal_growth, batches_applied, batch_wait_seconds, batch_apply_seconds
FROM pipeline_progress;

-- Columns keep their comments.
DO $$
DECLARE commented RECORD;
BEGIN
    FOR commented IN
        SELECT attname, col_description(attrelid, attnum) AS comment FROM pg_attribute
        WHERE attrelid = 'pipeline_progress'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NOT NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN pipeline_metadata.%I IS %L', commented.attname, commented.comment);
    END LOOP;
END $$;

CREATE FUNCTION rosetta_count_failure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.failed_runs := OLD.failed_runs + 1;
    RETURN NEW;
END $$;
-- Older workers count theirs, too: each failure increments failure_count, and nothing else does.
CREATE TRIGGER count_failure BEFORE UPDATE OF failure_count ON pipeline_progress
    FOR EACH ROW WHEN (NEW.failure_count > OLD.failure_count) EXECUTE FUNCTION rosetta_count_failure();

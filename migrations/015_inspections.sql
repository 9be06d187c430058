-- A run that waits for tables asks the stream to compare the source's catalog first; the stream says which request it has met.

ALTER TABLE pipeline_progress
    ADD COLUMN inspections_requested  BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN inspection_done        BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN pipeline_progress.inspections_requested IS 'How often somebody asked the run to compare the source''s catalog.';
COMMENT ON COLUMN pipeline_progress.inspection_done IS
    'The last of these requests after which the catalog was compared, and the tables that differ are no longer STREAMING.';

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
       failed_runs, wal_growth, batches_applied, batch_wait_seconds, batch_apply_seconds,
       inspections_requested, inspection_done
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

-- What is done about a slot that retains too much WAL, and what was done.

ALTER TABLE pipelines ADD COLUMN on_slot_limit VARCHAR(20) NOT NULL DEFAULT 'ALERT'
    CONSTRAINT pipeline_on_slot_limit_is_alert_pause_or_drop_slot CHECK (on_slot_limit IN ('ALERT', 'PAUSE', 'DROP_SLOT'));
COMMENT ON COLUMN pipelines.on_slot_limit IS
    'When the slot retains wal_error_bytes. ALERT: the check fails. PAUSE: the pipeline is paused as well. DROP_SLOT: the slot is dropped, and all tables have to be copied again.';
CREATE TRIGGER retry_slot_limit AFTER UPDATE OF on_slot_limit ON pipelines
    FOR EACH ROW EXECUTE FUNCTION rosetta_retry_pipeline();

ALTER TABLE pipeline_progress
    ADD COLUMN slot_action VARCHAR(20)
        CONSTRAINT metadata_slot_action_is_paused_or_dropped CHECK (slot_action IN ('PAUSED', 'DROPPED')),
    ADD COLUMN slot_action_reason TEXT;
COMMENT ON COLUMN pipeline_progress.slot_action IS
    'What was done because the slot retained too much WAL: PAUSED, until it retains less, or DROPPED, until there is a new one.';
COMMENT ON COLUMN pipeline_progress.slot_action_reason IS 'Why that was done, and the remedy.';

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
       inspections_requested, inspection_done, slot_action, slot_action_reason
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

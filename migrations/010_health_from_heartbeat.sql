-- A pipeline whose processes are gone must not be shown as healthy. Nothing is left to write that, so it is derived when it
-- is read: pipeline_metadata becomes a view of the stored columns, whose health_status follows from the heartbeat's age.

ALTER TABLE pipeline_metadata RENAME TO pipeline_progress;
ALTER TABLE pipeline_progress RENAME COLUMN health_status TO reported_health;
COMMENT ON TABLE pipeline_progress IS 'What Rosetta stores of each pipeline. Read pipeline_metadata.';
COMMENT ON COLUMN pipeline_progress.reported_health IS
    'The health at the last evaluation. pipeline_metadata.health_status is the health now.';

CREATE VIEW pipeline_metadata AS
SELECT pipeline_id, status,
       -- A run writes its heartbeat every two seconds. After START the control sensor has a minute to start one.
       CASE WHEN (SELECT pipelines.status FROM pipelines WHERE pipelines.id = pipeline_id) <> 'PAUSE'
                 AND greatest(heartbeat_at, (SELECT pipelines.updated_at FROM pipelines WHERE pipelines.id = pipeline_id))
                     < clock_timestamp() - interval '60 seconds'
            THEN 'ERROR' ELSE reported_health END::VARCHAR(20) AS health_status,
       wal_size, last_success_time, last_error, last_error_at, slot_name, wal_status, confirmed_flush_lsn, applied_lsn,
       lag_bytes, lag_seconds, rows_copied, rows_applied, run_id, heartbeat_at, started_at, failure_count, next_attempt_at,
       updated_at, safe_wal_size, wal_size_at, reported_health
FROM pipeline_progress;
COMMENT ON VIEW pipeline_metadata IS 'How each pipeline is now. Every column but health_status can be updated.';
COMMENT ON COLUMN pipeline_metadata.health_status IS
    'HEALTHY, WARNING or ERROR. ERROR also when the pipeline is to run and no run has written a heartbeat for a minute.';

-- Roles keep what they may do.
DO $$
DECLARE granted RECORD;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, privilege_type
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'pipeline_progress'::regclass AND grantee <> relowner
          AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON pipeline_metadata TO %s', granted.privilege_type, granted.role);
    END LOOP;
END $$;

-- What only a person can mend is tried again slowly: a grant or a setting that has been mended changes no row here.
UPDATE pipeline_progress SET next_attempt_at = now() WHERE next_attempt_at = 'infinity';
COMMENT ON COLUMN pipeline_progress.next_attempt_at IS 'No restart before this time, unless a row of the pipeline is changed.';

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

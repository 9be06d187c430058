-- How near a pipeline's slot is to being lost.

ALTER TABLE pipeline_metadata ADD COLUMN safe_wal_size BIGINT;
COMMENT ON COLUMN pipeline_metadata.safe_wal_size IS
    'Bytes of WAL that the source may still write before the slot is in danger; NULL: max_slot_wal_keep_size sets no limit.';
COMMENT ON COLUMN pipeline_metadata.wal_status IS
    'reserved; extended: more WAL than max_wal_size is kept; unreserved: the next checkpoint may lose it; lost.';

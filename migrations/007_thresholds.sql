-- From where on a pipeline's checks warn and fail, and when its slot was last looked at.

ALTER TABLE pipelines ADD COLUMN thresholds JSONB NOT NULL DEFAULT '{}';
ALTER TABLE pipelines ADD CONSTRAINT pipeline_thresholds_are_an_object CHECK (jsonb_typeof(thresholds) = 'object');
COMMENT ON COLUMN pipelines.thresholds IS
    'wal_warning_bytes, wal_error_bytes, slot_warning_seconds, slot_error_seconds, freshness_warning_seconds, '
    'freshness_error_seconds, row_count_tolerance; what is not named has its default.';

ALTER TABLE pipeline_metadata ADD COLUMN wal_size_at TIMESTAMPTZ;
COMMENT ON COLUMN pipeline_metadata.wal_size_at IS 'When wal_size was read; from two readings follows how fast it grows.';

-- The version of a table's contents outlives the run that wrote them, so that Dagster shows the same version after a restart.

ALTER TABLE pipeline_tables ADD COLUMN data_version TEXT;
COMMENT ON COLUMN pipeline_tables.data_version IS
    'Version of the replica''s contents: the LSN of its last change, or the run that copied it; NULL before its first run.';

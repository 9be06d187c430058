-- A table can be paused by itself. What changes meanwhile is in no stream, so it is copied again when it is resumed.

ALTER TABLE pipeline_tables ADD COLUMN paused BOOLEAN NOT NULL DEFAULT false;
COMMENT ON COLUMN pipeline_tables.paused IS
    'true: the table is not replicated. Set to false, it is copied again, unless the pipeline did not run meanwhile.';

CREATE TRIGGER retry_paused AFTER UPDATE OF paused ON pipeline_tables
    FOR EACH ROW EXECUTE FUNCTION rosetta_retry_member();

-- A table can be set aside and copied anew without the rest of its pipeline.

ALTER TABLE pipelines ADD COLUMN on_schema_change VARCHAR(20) NOT NULL DEFAULT 'APPLY'
    CONSTRAINT pipeline_on_schema_change_is_apply_or_stop_table CHECK (on_schema_change IN ('APPLY', 'STOP_TABLE'));
COMMENT ON COLUMN pipelines.on_schema_change IS
    'APPLY: what can be followed is done at the destinations too. STOP_TABLE: the table is set aside until it is resynced.';

ALTER TABLE pipeline_tables ADD COLUMN resync BOOLEAN NOT NULL DEFAULT false;
COMMENT ON COLUMN pipeline_tables.resync IS
    'Set it to true, and the table is copied anew while the others go on; Rosetta sets it back.';
COMMENT ON COLUMN pipeline_tables.error IS 'Why the table was set aside; the others go on.';

CREATE OR REPLACE TRIGGER retry AFTER UPDATE OF status, source_id, engine, publication_name, replication_name, on_schema_change
    ON pipelines FOR EACH ROW EXECUTE FUNCTION rosetta_retry_pipeline();
CREATE TRIGGER retry_resync AFTER UPDATE OF resync ON pipeline_tables
    FOR EACH ROW WHEN (NEW.resync) EXECUTE FUNCTION rosetta_retry_member();

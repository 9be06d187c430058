-- Options of pipelines and tables, and types of destinations that come with Rosetta's code instead of a fixed list.

ALTER TABLE pipelines ADD COLUMN on_gap VARCHAR(20) NOT NULL DEFAULT 'COPY'
    CONSTRAINT pipeline_on_gap_is_copy_or_stop_table CHECK (on_gap IN ('COPY', 'STOP_TABLE'));
COMMENT ON COLUMN pipelines.on_gap IS
    'When the stream may have missed changes of a table. COPY: it is copied again. STOP_TABLE: it is set aside.';

ALTER TABLE pipelines ADD COLUMN on_partition_drop VARCHAR(20) NOT NULL DEFAULT 'FOLLOW'
    CONSTRAINT pipeline_on_partition_drop_is_follow_or_keep CHECK (on_partition_drop IN ('FOLLOW', 'KEEP'));
COMMENT ON COLUMN pipelines.on_partition_drop IS
    'When a partition is dropped or detached at the source. FOLLOW: its rows are removed here too. KEEP: they stay.';

ALTER TABLE pipelines ADD COLUMN types VARCHAR(20) NOT NULL DEFAULT 'CREATE'
    CONSTRAINT pipeline_types_is_create_or_text CHECK (types IN ('CREATE', 'TEXT'));
COMMENT ON COLUMN pipelines.types IS
    'When an enum, domain or composite type is missing at the destination. CREATE: it is created. TEXT: its columns are text.';

ALTER TABLE pipeline_tables ADD COLUMN comments BOOLEAN NOT NULL DEFAULT true;
COMMENT ON COLUMN pipeline_tables.comments IS 'Whether the comments of the table and its columns are copied with it.';

-- Every option of a pipeline ends the wait after a failure, as the others do.
DROP TRIGGER retry ON pipelines;
CREATE TRIGGER retry AFTER UPDATE OF
    status, source_id, engine, publication_name, replication_name, on_schema_change, on_gap, on_partition_drop, types
    ON pipelines FOR EACH ROW EXECUTE FUNCTION rosetta_retry_pipeline();

-- Rosetta adds the types that it knows at each start. The two are here so that migrations applied by hand are complete.
CREATE TABLE destination_types (type VARCHAR(50) PRIMARY KEY);
COMMENT ON TABLE destination_types IS 'The types that destinations.type may have; written by Rosetta.';
INSERT INTO destination_types (type) VALUES ('POSTGRES'), ('SNOWFLAKE');

CREATE FUNCTION rosetta_verify_destination_type() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM destination_types WHERE type = NEW.type) THEN
        RAISE EXCEPTION 'Destination % cannot be of type %: there is no such type.', NEW.name, NEW.type
            USING ERRCODE = 'check_violation', TABLE = 'destinations', COLUMN = 'type',
                  CONSTRAINT = 'destination_type_is_known',
                  HINT = 'Use one of: ' || (SELECT string_agg(type, ', ' ORDER BY type) FROM destination_types) || '.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER verify_type BEFORE INSERT OR UPDATE OF type ON destinations
    FOR EACH ROW EXECUTE FUNCTION rosetta_verify_destination_type();
ALTER TABLE destinations DROP CONSTRAINT destination_type_is_postgres_or_snowflake;

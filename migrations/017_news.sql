-- A run listens for changes of its pipeline's rows, instead of reading them twice in a second.

CREATE FUNCTION rosetta_notify() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row_changed JSONB := to_jsonb(COALESCE(NEW, OLD));
BEGIN
    PERFORM pg_notify('rosetta_pipelines', COALESCE(row_changed ->> 'pipeline_id', row_changed ->> 'id'));
    RETURN NULL;
END $$;

CREATE TRIGGER notify AFTER UPDATE OR DELETE ON pipelines FOR EACH ROW EXECUTE FUNCTION rosetta_notify();

CREATE TRIGGER notify AFTER UPDATE OF inspections_requested ON pipeline_progress
    FOR EACH ROW WHEN (NEW.inspections_requested <> OLD.inspections_requested) EXECUTE FUNCTION rosetta_notify();

CREATE TRIGGER notify AFTER INSERT OR DELETE ON pipeline_tables FOR EACH ROW EXECUTE FUNCTION rosetta_notify();

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON pipeline_patterns
    FOR EACH ROW EXECUTE FUNCTION rosetta_notify();

-- What runs report is no news to them. Settings that later migrations add are, since only the columns of reports are named.
CREATE FUNCTION rosetta_notify_of_settings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    reported CONSTANT TEXT[] := '{state,error,rows_copied,rows_applied,rows_inserted,rows_updated,rows_deleted,times_truncated,'
        'last_change_time,data_version,updated_at}';
BEGIN
    IF to_jsonb(OLD) - reported IS DISTINCT FROM to_jsonb(NEW) - reported THEN
        PERFORM pg_notify('rosetta_pipelines', NEW.pipeline_id::text);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER notify_of_settings AFTER UPDATE ON pipeline_tables
    FOR EACH ROW EXECUTE FUNCTION rosetta_notify_of_settings();

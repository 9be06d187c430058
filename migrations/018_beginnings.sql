-- Which rows of a table are copied before its changes are followed.

ALTER TABLE pipeline_tables
    ADD COLUMN initial VARCHAR(20) NOT NULL DEFAULT 'COPY'
        CONSTRAINT pipeline_table_initial_is_copy_or_none CHECK (initial IN ('COPY', 'NONE')),
    ADD COLUMN copy_where TEXT
        CONSTRAINT pipeline_table_copy_where_is_not_empty CHECK (copy_where <> ''),
    ADD CONSTRAINT pipeline_table_copies_rows_to_choose_from CHECK (copy_where IS NULL OR initial = 'COPY');
COMMENT ON COLUMN pipeline_tables.initial IS 'COPY: the table begins with the rows that it has. NONE: with no rows.';
COMMENT ON COLUMN pipeline_tables.copy_where IS 'The condition of the rows that are copied; NULL: all rows.';

-- A change ends the wait after a failure, as others do.
CREATE TRIGGER retry_beginning AFTER UPDATE OF initial, copy_where ON pipeline_tables
    FOR EACH ROW EXECUTE FUNCTION rosetta_retry_member();

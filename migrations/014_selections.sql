-- Which columns and rows of a table are replicated.

ALTER TABLE pipeline_tables
    ADD COLUMN columns text[] NOT NULL DEFAULT '{}',
    ADD COLUMN exclude text[] NOT NULL DEFAULT '{}',
    ADD COLUMN row_filter text
        CONSTRAINT pipeline_table_row_filter_is_not_empty CHECK (row_filter <> ''),
    ADD CONSTRAINT pipeline_table_has_columns_or_exclude CHECK (columns = '{}' OR exclude = '{}');
COMMENT ON COLUMN pipeline_tables.columns IS 'The columns that are replicated; empty: all, but for those in exclude.';
COMMENT ON COLUMN pipeline_tables.exclude IS 'Columns that are not replicated; those that are added later are.';
COMMENT ON COLUMN pipeline_tables.row_filter IS
    'The condition of the rows that are replicated, as in CREATE PUBLICATION … WHERE; NULL: all rows.';

-- A change ends the wait after a failure, as others do.
CREATE TRIGGER retry_selection AFTER UPDATE OF columns, exclude, row_filter ON pipeline_tables
    FOR EACH ROW EXECUTE FUNCTION rosetta_retry_member();

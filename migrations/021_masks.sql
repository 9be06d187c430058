-- Which columns of a table are masked, and which variable has the salt of their hashes.

ALTER TABLE pipeline_tables
    ADD COLUMN mask jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT pipeline_table_mask_is_known CHECK (
            jsonb_typeof(mask) = 'object'
            AND NOT jsonb_path_exists(mask, '$.* ? (@.type() != "string")')
            AND NOT jsonb_path_exists(
                mask, '$.* ? (!(@ like_regex "^(hash|redact|year|keep_last\\([1-9][0-9]?\\))$"))'));
COMMENT ON COLUMN pipeline_tables.mask IS
    'The mask of each masked column: hash, redact, year, or keep_last(n). Values never arrive unmasked.';

ALTER TABLE pipelines
    ADD COLUMN mask_salt_env text NOT NULL DEFAULT 'ROSETTA_SECRET_MASK_SALT'
        CONSTRAINT pipeline_mask_salt_env_is_a_variable CHECK (mask_salt_env ~ '^[A-Za-z_][A-Za-z0-9_]*$');
COMMENT ON COLUMN pipelines.mask_salt_env IS 'The environment variable that has the salt of hashed values.';

-- A change ends the wait after a failure, as others do.
CREATE TRIGGER retry_mask AFTER UPDATE OF mask ON pipeline_tables
    FOR EACH ROW EXECUTE FUNCTION rosetta_retry_member();

-- The keys that secrets are encrypted under: each is derived from a SECRET_KEY and this salt. No key is stored.
CREATE TABLE secret_keys (
    id           text PRIMARY KEY,
    salt         bytea NOT NULL,
    check_value  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE secret_keys IS 'Written by Rosetta at first use and by rosetta secrets rotate.';
COMMENT ON COLUMN secret_keys.check_value IS 'A known text, encrypted: another SECRET_KEY is refused before it writes.';

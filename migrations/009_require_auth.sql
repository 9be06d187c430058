-- How a source's server may ask who connects (libpq's require_auth); NULL: by SCRAM, so that no password is sent in clear.
ALTER TABLE sources ADD COLUMN IF NOT EXISTS pg_require_auth text;

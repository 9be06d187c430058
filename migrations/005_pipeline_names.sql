-- Dagster's job of a pipeline is rosetta_<name>, and the jobs that administer pipelines are rosetta__<what they do>. A name
-- with an underscore at its start could be that of one of them, and no definition of the code location would load.
-- Rows from before are left as they are.

ALTER TABLE pipelines ADD CONSTRAINT pipeline_name_starts_with_letter_or_digit CHECK (name !~ '^_') NOT VALID;

-- Which code location declares a pipeline: one that its code no longer declares is paused, and those of others are left alone.

ALTER TABLE pipelines ADD COLUMN declared_in VARCHAR(255);
COMMENT ON COLUMN pipelines.declared_in IS 'Name of the code location whose code declares the pipeline; written by Rosetta.';

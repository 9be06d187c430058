"""Compares a source with Snowflake: the same hash is computed by both, from the same text of each value."""

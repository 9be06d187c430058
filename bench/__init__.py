"""Measures Rosetta against PostgreSQL's own logical replication: the same changes, in one run, on the same machine."""

"""The demo: replicates a small shop to a warehouse under Dagster, on embedded servers."""

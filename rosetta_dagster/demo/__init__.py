"""The demo: a small shop that is replicated to a warehouse, on embedded parts, under Dagster."""

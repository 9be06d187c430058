"""The engine: captures changes of PostgreSQL and applies them to destinations. It knows nothing of Dagster."""

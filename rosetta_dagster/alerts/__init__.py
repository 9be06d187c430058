"""Alerts: who receives which problems, when a message is due, and how it is sent. Knows nothing of Dagster."""

"""Rosetta's Java classes: they run in the process of Debezium's engine, and hand events over to Python."""

"""Debezium as a capture engine."""

"""Snowflake as a destination."""

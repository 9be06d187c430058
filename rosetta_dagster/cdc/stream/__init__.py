"""The journey of a change, from a delivery of the source to a commit: what waits, what is durable, what is reported.

It knows streams and destinations by their contracts, and begins copies of a PostgreSQL source. It never chooses an engine.
"""

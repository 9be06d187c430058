"""PostgreSQL's own replication protocol as a capture engine, without Java."""

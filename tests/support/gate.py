"""A lock that holds a destination where a test wants it."""

from tests.support.database import Database

#: Key of the lock that holds the destination where a test wants it.
GATE = 4711


def is_held(destination: Database) -> bool:
    """Whether somebody waits for a lock."""
    return bool(destination.rows("SELECT FROM pg_locks WHERE NOT granted"))

"""Removes libpq's variables from the environment: an embedded server is reached by its URL and nothing else.

A `PGSERVICE` or `PGHOSTADDR` of the user's shell leads to another server, and a `PGSSLMODE` asks for TLS that the
embedded server does not have.
"""

import os

from psycopg import pq

#: Variables that libpq or the server reads and that are no connection parameters.
_OTHER = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR", "PGREQUIRESSL", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGDATA")


def drop_libpq_variables() -> None:
    """Remove them from this process, and so from every process that it starts later."""
    for name in libpq_variables():
        os.environ.pop(name, None)


def libpq_variables() -> frozenset[str]:
    """Return the names of the variables that libpq reads."""
    parameters = (option.envvar for option in pq.Conninfo.get_defaults())
    return frozenset(_OTHER) | {name.decode() for name in parameters if name}

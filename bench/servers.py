"""Starts the two PostgreSQL servers of the benchmark, and creates databases on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from rosetta_dagster.embedded.postgres import EmbeddedPostgres

#: Commits reach the disk, as in production. Autovacuum and checkpoints would hit contenders at random, so a part does their
#: work itself between two measurements.
_SETTINGS = {
    "fsync": "on",
    "autovacuum": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
    "max_connections": "200",
    "max_wal_senders": "40",
    "max_replication_slots": "40",
    "max_logical_replication_workers": "16",
    "max_worker_processes": "24",
}


class Servers(NamedTuple):
    """The server of the sources, and the server of the destinations."""

    source: EmbeddedPostgres
    destination: EmbeddedPostgres


@contextmanager
def running_servers() -> Iterator[Servers]:
    with EmbeddedPostgres(settings=_SETTINGS) as source, EmbeddedPostgres(settings=_SETTINGS) as destination:
        yield Servers(source, destination)


def settle(*urls: str) -> None:
    """Vacuum, analyze and checkpoint now, so that the servers do not do it during a measurement."""
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


def drop_database(url: str) -> None:
    """Drop a database that has been measured."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

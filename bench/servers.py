"""Starts the two servers that everything is measured on, and makes databases on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from rosetta_dagster.embedded.postgres import EmbeddedPostgres

#: Commits reach the disk, as they would in production. Autovacuum and checkpoints would fall on one contender or another
#: by chance: a part does their work itself, between two measurements.
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
    """The server that changes come from, and the one that they go to."""

    source: EmbeddedPostgres
    destination: EmbeddedPostgres


@contextmanager
def running_servers() -> Iterator[Servers]:
    with EmbeddedPostgres(settings=_SETTINGS) as source, EmbeddedPostgres(settings=_SETTINGS) as destination:
        yield Servers(source, destination)


def settle(*urls: str) -> None:
    """Do what autovacuum and the checkpointer would do at some moment, so that they do not do it while we measure."""
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


def drop_database(url: str) -> None:
    """Give back the disk of a database that has been measured."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

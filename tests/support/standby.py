"""A standby of a server, to be promoted."""

import os

import psycopg

from rosetta_dagster.embedded.postgres import USER, EmbeddedPostgres
from tests.support.waiting import eventually


class Standby(EmbeddedPostgres):
    """A physical standby that also synchronizes the primary's failover slots. Owns its process, as every server does."""

    def __init__(self, primary: EmbeddedPostgres) -> None:
        super().__init__(settings={"hot_standby_feedback": "on", "sync_replication_slots": "on"})
        self._password = primary.password
        self._primary = primary

    def _initialize(self) -> None:
        """Copy the primary, with a slot that keeps its log for this standby."""
        passfile = self._directory / "passfile"
        passfile.write_text(f"*:*:*:*:{self._password}\n")
        passfile.chmod(0o600)
        if self._owner is not None:
            os.chown(passfile, self._owner.pw_uid, self._owner.pw_gid)
        source = f"host=127.0.0.1 port={self._primary.port} user={USER} dbname=postgres passfile={passfile}"
        self._run("pg_basebackup", "-D", str(self._data), "-d", source, "-R", "-X", "stream", "-C", "-S", "standby",
                  "--no-sync", "-c", "fast")  # fmt: skip

    def _make_logins_cheap(self) -> None:
        """Leave it to the primary: a standby takes its roles over."""

    def receive_slots(self) -> None:
        """Wait until the server's worker has brought over the primary's failover slots.

        A slot is kept once its reader has passed the place in the log where the worker began with it. The worker goes on
        with that; `pg_sync_replication_slots()` begins again each time, and misses a reader that is just behind.
        """
        with (
            psycopg.connect(self.url(), autocommit=True) as own,
            psycopg.connect(self._primary.url(), autocommit=True) as other,
        ):

            def are_kept() -> bool:
                other.execute("SELECT pg_log_standby_snapshot()")
                kept = own.execute("SELECT bool_and(NOT temporary) FROM pg_replication_slots WHERE synced")
                return kept.fetchone() == (True,)

            eventually(are_kept)

    def promote(self) -> None:
        """Become a primary, with everything that was received."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true, 30)")

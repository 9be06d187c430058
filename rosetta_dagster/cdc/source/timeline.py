"""Decides whether a promoted server has everything that a destination holds, by the history of its timelines.

Each promotion begins a timeline at the point up to which the new primary had received the log. What the old primary wrote
beyond that point is lost. https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

from dataclasses import dataclass

from psycopg import sql

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.source.connections import connect_for_replication, source_errors


@dataclass(frozen=True, slots=True)
class Timelines:
    """The timeline that a server writes, and where those before it ended."""

    current: int
    #: By timeline: the LSN at which the next one began.
    ends: dict[int, Lsn]

    def end_of(self, timeline: int) -> Lsn | None:
        """Return where a timeline ended for this server; None for the current one. A server that never had it has none."""
        if timeline == self.current:
            return None
        return self.ends.get(timeline, Lsn(0))


def read_timelines(connection: PostgresConnection) -> Timelines:
    """Return the timelines of the source."""
    with source_errors(connection), connect_for_replication(connection) as replication:
        row = replication.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None, "the command returns one row"
        current = int(row[1])
        if current == 1:
            return Timelines(current, {})
        history = replication.execute(sql.SQL("TIMELINE_HISTORY {}").format(sql.Literal(current))).fetchone()
        assert history is not None, "the command returns one row"
    content = history[1]
    return Timelines(current, parse_history(content if isinstance(content, str) else bytes(content).decode()))


def parse_history(text: str) -> dict[int, Lsn]:
    r"""Return the end of each timeline in a history file.

    >>> parse_history("1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2000-01-01")
    {1: Lsn(0/3000148), 2: Lsn(0/5000000)}
    """
    lines = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {int(timeline): Lsn.parse(lsn) for timeline, lsn, *_ in lines}

"""Decides whether a server can be a source, and whether the role may replicate from it."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem, quoted, warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the server says of itself and of the role that asks."""

    wal_level: str
    is_standby: bool
    #: Host and port that a standby streams from; empty for a primary, or where the role may not see it.
    primary_address: str
    is_managed: bool
    can_replicate: bool
    free_slots: int
    free_walsenders: int
    slot_exists: bool
    username: str
    can_create: bool
    #: Slots of standbys that may take this server's slots over, and those of them that the server waits for.
    standby_slots: list[str]
    awaited_slots: list[str]


#: Only a standby with `hot_standby_feedback`, which keeps an xmin in its slot, can synchronize slots, from version 17 on.
_STANDBY_SLOTS = """ARRAY(
    SELECT slot_name::text FROM pg_replication_slots
    WHERE slot_type = 'physical' AND active AND COALESCE(xmin, catalog_xmin) IS NOT NULL
      AND current_setting('server_version_num')::int >= 170000
    ORDER BY slot_name)"""

#: A standby decodes changes from version 16 on, which is not enough.
_STANDBY_REFUSAL = (
    "The source is a standby. Rosetta writes its publication and its heartbeats at the source, and creates a slot with "
    "failover there, which a standby of any version refuses."
)

#: Amazon's servers have a role in the place of the attribute, and a parameter group in the place of `ALTER SYSTEM`.
_READ = r"""
SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS is_standby,
       COALESCE((SELECT concat_ws(':', sender_host, sender_port) FROM pg_stat_wal_receiver), '') AS primary_address,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') AS is_managed,
       rolreplication OR rolsuper
           OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER'))
           AS can_replicate,
       current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots) AS free_slots,
       current_setting('max_wal_senders')::int
           - (SELECT count(*)::int FROM pg_stat_get_activity(NULL) WHERE backend_type = 'walsender') AS free_walsenders,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s) AS slot_exists,
       rolname::text AS username,
       has_database_privilege(current_database(), 'CREATE') AS can_create,
       {standby_slots} AS standby_slots,
       regexp_split_to_array(COALESCE(current_setting('synchronized_standby_slots', true), ''), '\s*,\s*') AS awaited_slots
FROM pg_roles WHERE rolname = current_user
""".replace("{standby_slots}", _STANDBY_SLOTS)


def read_server(connection: "psycopg.Connection[Any]", slot_name: str) -> Server:
    """Return what the server says, seen by the role of this connection."""
    row = connection.cursor(row_factory=dict_row).execute(_READ, [slot_name]).fetchone()
    assert row is not None, "the current user has a row in pg_roles"
    return Server(**row)


def about_server(server: Server) -> list[Finding]:
    """Return what is wrong with the server, and with the role's rights on it."""
    name = quoted(server.username)
    grant = f"GRANT rds_replication TO {name}" if server.is_managed else f"ALTER ROLE {name} REPLICATION"
    logical = "rds.logical_replication = 1 in its parameter group." if server.is_managed else "wal_level = logical"
    checks: list[tuple[bool, Check, str, str]] = [
        (
            server.is_standby,
            Check.STANDBY,
            _STANDBY_REFUSAL,
            f"Point the source at the primary{f' ({server.primary_address})' if server.primary_address else ''}.",
        ),
        (
            server.wal_level != "logical",
            Check.WAL_LEVEL,
            f"The source runs with wal_level={server.wal_level}; change data capture needs logical.",
            f"Set {logical} at the source and restart it.",
        ),
        (
            not server.can_replicate,
            Check.REPLICATION,
            f"Role {server.username} may not replicate.",
            f"Run {grant} at the source.",
        ),
        (
            server.free_slots < 1 and not server.slot_exists,
            Check.SLOTS,
            "The source has no free replication slot.",
            "Drop unused slots, or raise max_replication_slots and restart the source.",
        ),
        (
            server.free_walsenders < 1,
            Check.WALSENDERS,
            "The source has no free walsender.",
            "Raise max_wal_senders and restart the source.",
        ),
    ]
    return [problem(check, message, remedy) for is_wrong, check, message, remedy in checks if is_wrong]


def about_failover(server: Server) -> list[Finding]:
    """Return a warning if no standby is sure to have what was read from the slot when it is promoted."""
    if not server.standby_slots or not set(server.standby_slots).isdisjoint(server.awaited_slots):
        return []
    names = ", ".join(server.standby_slots)
    statement = (
        f"ALTER SYSTEM SET synchronized_standby_slots = {sql.Literal(names).as_string(None)}; SELECT pg_reload_conf();"
    )
    remedy = (
        f"Set synchronized_standby_slots = '{names}' in its parameter group." if server.is_managed else f"Run {statement}"
    )
    return [
        warning(
            Check.STANDBY,
            f"Changes may be read from the source before its standby has them (slot {names}): if that is promoted, the "
            "pipeline may have to be copied again.",
            f"{remedy} The stream waits for that standby then.",
        )
    ]

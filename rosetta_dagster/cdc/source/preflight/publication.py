"""Decides whether the pipeline's publication can be made, and whether one that exists leaves something out."""

from collections.abc import Sequence

from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem, quoted
from rosetta_dagster.cdc.source.preflight.server import Server
from rosetta_dagster.cdc.source.preflight.tables import Rights
from rosetta_dagster.cdc.source.publications import OWN_PREFIX, Publication
from rosetta_dagster.cdc.table_id import TableId


def about_new_publication(name: str, server: Server, rights: Sequence[Rights]) -> list[Finding]:
    """Return whether the role may create it: that takes CREATE on the database and the ownership of every table."""
    foreign = [str(right.table) for right in rights if not right.owns]
    if server.can_create and not foreign:
        return []
    names = ", ".join(f"ONLY {quoted(*right.table)}" for right in rights)
    reason = f", as it does not own {', '.join(foreign)}" if server.can_create else ""
    return [
        problem(
            Check.PUBLICATION,
            f"Publication {name} does not exist, and role {server.username} may not create it{reason}.",
            "Grant CREATE on the database and the ownership of the tables, or run as an administrator: CREATE PUBLICATION "
            f"{quoted(name)} FOR TABLE {names} WITH (publish_via_partition_root = true).",
        )
    ]


def about_publication(name: str, publication: Publication, rights: Sequence[Rights]) -> list[Finding]:
    """Return what a publication that exists leaves out. Tables may be added to one of Rosetta's own, by their owner."""
    own = name.startswith(OWN_PREFIX)
    missing = publication.missing_tables([right.table for right in rights if not (own and right.owns)])
    wanted = {right.table for right in rights}
    findings = [_about_member(name, table) for table in missing]
    if not publication.is_whole:
        remedy = f"Run ALTER PUBLICATION {quoted(name)} SET (publish = 'insert, update, delete, truncate') at the source."
        findings.append(problem(Check.PUBLICATION, f"Publication {name} leaves out a kind of changes.", remedy))
    findings += [_about_split(name, table) for table in sorted(wanted & publication.split_tables)]
    return findings


def _about_member(name: str, table: TableId) -> Finding:
    remedy = f"Run ALTER PUBLICATION {quoted(name)} ADD TABLE ONLY {quoted(*table)} at the source."
    return problem(Check.PUBLICATION, f"Publication {name} does not have table {table}.", remedy, table)


def _about_split(name: str, table: TableId) -> Finding:
    remedy = f"Run ALTER PUBLICATION {quoted(name)} SET (publish_via_partition_root = true) at the source."
    message = f"Publication {name} has the partitions of {table} in the place of the table."
    return problem(Check.PUBLICATION, message, remedy, table)

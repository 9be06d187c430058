"""Decides whether the pipeline's publication can be made, and whether one that exists leaves something out."""

from collections.abc import Collection, Sequence

from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem, quoted, warning
from rosetta_dagster.cdc.source.preflight.server import Server
from rosetta_dagster.cdc.source.preflight.tables import Rights
from rosetta_dagster.cdc.source.publications import OWN_PREFIX, Publication
from rosetta_dagster.cdc.table_id import TableId


def about_new_publication(
    name: str, server: Server, rights: Sequence[Rights], unidentified: Collection[TableId] = ()
) -> list[Finding]:
    """Return whether the role may create it: that takes CREATE on the database and the ownership of every table.

    The statement for an administrator leaves unidentified tables out: once it published them, the server would refuse their
    updates and deletes.
    """
    foreign = [str(right.table) for right in rights if not right.owns]
    if server.can_create and not foreign:
        return []
    names = ", ".join(f"ONLY {quoted(*right.table)}" for right in rights if right.table not in unidentified)
    tables = f"FOR TABLE {names} " if names else ""
    reason = f", as it does not own {', '.join(foreign)}" if server.can_create else ""
    return [
        problem(
            Check.PUBLICATION,
            f"Publication {name} does not exist, and role {server.username} may not create it{reason}.",
            "Grant CREATE on the database and the ownership of the tables, or run as an administrator: CREATE PUBLICATION "
            f"{quoted(name)} {tables}WITH (publish_via_partition_root = true).",
        )
    ]


def about_publication(
    name: str, publication: Publication, rights: Sequence[Rights], unidentified: Collection[TableId] = ()
) -> list[Finding]:
    """Return what a publication that exists leaves out. Tables may be added to one of Rosetta's own, by their owner."""
    own = name.startswith(OWN_PREFIX)
    missing = publication.missing_tables([right.table for right in rights if not (own and right.owns)])
    wanted = {right.table for right in rights}
    findings = [_about_member(name, table, is_identified=table not in unidentified) for table in missing]
    if not publication.is_whole:
        remedy = f"Run ALTER PUBLICATION {quoted(name)} SET (publish = 'insert, update, delete, truncate') at the source."
        findings.append(problem(Check.PUBLICATION, f"Publication {name} leaves out a kind of changes.", remedy))
    else:
        refused = wanted & publication.tables & set(unidentified)
        findings += [_about_refusal(name, table) for table in sorted(refused)]
    findings += [_about_split(name, table) for table in sorted(wanted & publication.split_tables)]
    return findings


def _about_member(name: str, table: TableId, *, is_identified: bool) -> Finding:
    remedy = f"Run ALTER PUBLICATION {quoted(name)} ADD TABLE ONLY {quoted(*table)} at the source."
    if not is_identified:
        remedy = f"Give the table a replica identity first, or the source refuses its updates and deletes. {remedy}"
    return problem(Check.PUBLICATION, f"Publication {name} does not have table {table}.", remedy, table)


def _about_refusal(name: str, table: TableId) -> Finding:
    return warning(
        Check.PUBLICATION,
        f"Publication {name} makes the source refuse updates and deletes of table {table}, which has no replica identity.",
        f"Give the table a replica identity, or run ALTER PUBLICATION {quoted(name)} DROP TABLE ONLY {quoted(*table)} at "
        "the source.",
        table,
    )


def _about_split(name: str, table: TableId) -> Finding:
    remedy = f"Run ALTER PUBLICATION {quoted(name)} SET (publish_via_partition_root = true) at the source."
    message = f"Publication {name} has the partitions of {table} in the place of the table."
    return problem(Check.PUBLICATION, message, remedy, table)

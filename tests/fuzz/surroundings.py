"""What happens around the stream: changes that no stream carries, and statements that make them."""

from collections.abc import Sequence
from enum import StrEnum

from .names import quoted
from .tables import Identification, Table


class Around(StrEnum):
    """What happens to a table while no stream carries its changes."""

    #: It has another name for a moment, and rows go meanwhile.
    RENAMED = "RENAMED"
    #: Another table with most of its rows takes its name.
    REPLACED = "REPLACED"
    #: It is not published for a moment, and rows go meanwhile.
    UNPUBLISHED = "UNPUBLISHED"
    #: One of its partitions is emptied.
    PARTITION_EMPTIED = "PARTITION_EMPTIED"
    #: One of its partitions is another table for a moment, and rows go meanwhile.
    PARTITION_DETACHED = "PARTITION_DETACHED"


def possible(table: Table) -> tuple[Around, ...]:
    """Return what can happen to the table. The server counts unpublished deletes late, so those are left out."""
    if not table.may_change:
        return ()
    if table.partition_count:
        return (Around.RENAMED, Around.UNPUBLISHED, Around.PARTITION_EMPTIED, Around.PARTITION_DETACHED)
    if table.identification is Identification.PRIMARY_KEY and not table.generated and not table.has_dropped:
        return (Around.RENAMED, Around.UNPUBLISHED, Around.REPLACED)
    return (Around.RENAMED, Around.UNPUBLISHED)


def around_statements(around: Around, table: Table, publications: Sequence[str]) -> list[str]:
    """Return the statements. Together they are one transaction, so that another's lock leaves everything as it was."""
    away, leaf = quoted(table.id.namespace, "away"), table.leaves()[0]
    match around:
        case Around.RENAMED:
            renamed = f"ALTER TABLE {table.sql} RENAME TO away"
            return [renamed, _delete(away), f"ALTER TABLE {away} RENAME TO {quoted(table.id.name)}"]
        case Around.REPLACED:
            return [
                f"CREATE TABLE {away} (LIKE {table.sql} INCLUDING ALL)",
                f"INSERT INTO {away} SELECT * FROM {table.sql} OFFSET 1",
                f"DROP TABLE {table.sql}",
                f"ALTER TABLE {away} RENAME TO {quoted(table.id.name)}",
            ]
        case Around.UNPUBLISHED:
            changed = [f"ALTER PUBLICATION {each} {{}} TABLE ONLY {table.sql}" for each in publications]
            return [
                *(each.format("DROP") for each in changed),
                _delete(table.sql),
                *(each.format("ADD") for each in changed),
            ]
        case Around.PARTITION_EMPTIED:
            return [f"TRUNCATE {leaf}"]
        case Around.PARTITION_DETACHED:
            bound = f"FOR VALUES WITH (MODULUS {table.partition_count}, REMAINDER 0)"
            return [
                f"ALTER TABLE {table.sql} DETACH PARTITION {leaf}",
                _delete(leaf),
                f"ALTER TABLE {table.sql} ATTACH PARTITION {leaf} {bound}",
            ]


def _delete(name: str) -> str:
    return f"DELETE FROM {name} WHERE ctid IN (SELECT ctid FROM {name} LIMIT 2)"

"""Decides which rows and columns of a table Rosetta's own publication holds, and which selections PostgreSQL would punish.

PostgreSQL refuses an application's updates and deletes of a table that is published by a list of columns or a row filter
which does not fit its replica identity. So each selection is set in a transaction that PostgreSQL's own catalog is asked
in, and that is rolled back unless every statement of an application goes on as before. The table is locked meanwhile, so
its replica identity cannot change. A vacuum holds the same lock for hours, so a selection that is set already is recognized
without a lock, by the comment of the publication: the server rewrites a condition, and the comment records what it was.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.errors import SourceUnavailable
from rosetta_dagster.cdc.table_id import TableId

#: The first version whose publications have row filters and lists of columns.
SELECTIONS_VERSION: Final = 150_000

#: The wait for a lock on a table; the session's own has no limit.
_SHORT_WAIT = "SET lock_timeout = '500ms'"
_NO_LIMIT = "SET lock_timeout = 0"

#: Members whose updates or deletes the server refuses, each with a relation that holds rows: the table or a partition of it.
#: A filter names its columns by number, in the text form of its tree; in a partition they have the same names.
_REFUSED = """
WITH RECURSIVE member AS (
    SELECT member.prrelid AS root, class.relkind,
           CASE WHEN member.prattrs IS NOT NULL THEN ARRAY(
               SELECT attname::text FROM pg_attribute WHERE attrelid = prrelid AND attnum = ANY (prattrs::int2[])
           ) END AS listed,
           ARRAY(SELECT DISTINCT attname::text
                 FROM regexp_matches(member.prqual::text, ':varattno (\\d+)', 'g') AS found
                 JOIN pg_attribute ON attrelid = prrelid AND attnum = found[1]::int ORDER BY 1) AS filtered
    FROM pg_publication_rel AS member JOIN pg_publication AS publication ON publication.oid = member.prpubid
    JOIN pg_class AS class ON class.oid = member.prrelid
    WHERE publication.pubname = ANY (%(publications)s) AND (publication.pubupdate OR publication.pubdelete)
      AND (member.prattrs IS NOT NULL OR member.prqual IS NOT NULL)
), tree AS (
    SELECT root, root AS part, relkind FROM member
    UNION ALL
    SELECT tree.root, child.oid, child.relkind
    FROM tree JOIN pg_inherits AS inherits ON inherits.inhparent = tree.part
    JOIN pg_class AS child ON child.oid = inherits.inhrelid
    WHERE tree.relkind = 'p'
), identified AS (
    SELECT tree.root, part.oid AS part, part.relreplident = 'f' AS is_full, ARRAY(
        SELECT attname::text FROM pg_index AS index
        JOIN pg_attribute ON attrelid = part.oid AND attnum = ANY ((index.indkey::int2[])[0:index.indnkeyatts - 1])
        WHERE index.indrelid = part.oid AND index.indisvalid AND part.relreplident IN ('d', 'i')
          AND CASE part.relreplident WHEN 'i' THEN index.indisreplident ELSE index.indisprimary AND index.indimmediate END
        ORDER BY 1) AS identity
    FROM tree JOIN pg_class AS part ON part.oid = tree.part
), judged AS (
    SELECT identified.*, member.listed IS NOT NULL AS is_listed,
           ARRAY(SELECT unnest(identity) EXCEPT SELECT unnest(listed) ORDER BY 1) AS unlisted,
           CASE WHEN is_full THEN '{}' ELSE ARRAY(SELECT unnest(filtered) EXCEPT SELECT unnest(identity) ORDER BY 1) END
               AS unlogged
    FROM identified JOIN member USING (root)
)
SELECT DISTINCT ON (judged.root) namespace.nspname::text, root.relname::text, is_listed AND is_full,
       CASE WHEN is_listed THEN unlisted ELSE '{}' END, unlogged, judged.is_listed, judged.identity
FROM judged JOIN pg_class AS root ON root.oid = judged.root
JOIN pg_namespace AS namespace ON namespace.oid = root.relnamespace
WHERE (is_listed AND (is_full OR unlisted <> '{}')) OR unlogged <> '{}'
ORDER BY judged.root, judged.part
"""

_MEMBERS = """
SELECT namespace.nspname::text, class.relname::text, pg_get_expr(member.prqual, member.prrelid),
       ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = prrelid AND attnum = ANY (member.prattrs::int2[])
             ORDER BY attnum)
FROM pg_publication_rel AS member JOIN pg_publication AS publication ON publication.oid = member.prpubid
JOIN pg_class AS class ON class.oid = member.prrelid JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE publication.pubname = %s
"""


_COMMENT_OF = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the server would refuse updates and deletes of a table, were it published as it is selected."""

    table: TableId
    #: Whether only some columns are published of a table whose replica identity is the whole row.
    is_full: bool
    #: Columns of the replica identity that are not published.
    unlisted: tuple[str, ...]
    #: Columns of the filter that are outside of the replica identity.
    unlogged: tuple[str, ...]
    has_list: bool
    identity: tuple[str, ...]
    #: What the server says of the condition, which it does not accept; None when it does.
    condition_error: str | None = None


#: What the server raises for a condition that it does not accept, such as one with a subquery.
_OF_CONDITIONS = (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError)

_SOUND = Refusal(table=TableId("", ""), is_full=False, unlisted=(), unlogged=(), has_list=False, identity=())


class _Member(NamedTuple):
    """What a publication has of a table."""

    row_filter: str | None
    #: Empty for all columns.
    columns: tuple[str, ...]


def refused_members(connection: "psycopg.Connection[Any]", publications: Sequence[str]) -> list[Refusal]:
    """Return the members of these publications whose updates and deletes the server refuses because of a selection."""
    if connection.info.server_version < SELECTIONS_VERSION:
        return []
    return [
        Refusal(
            table=TableId(namespace, name),
            is_full=is_full,
            unlisted=tuple(unlisted),
            unlogged=tuple(unlogged),
            has_list=has_list,
            identity=tuple(identity),
        )
        for namespace, name, is_full, unlisted, unlogged, has_list, identity in connection.execute(
            _REFUSED, {"publications": list(publications)}
        )
    ]


def withdraw(connection: "psycopg.Connection[Any]", publications: Sequence[str]) -> list[TableId]:
    """Take the tables out of these publications whose updates and deletes the server refuses. Return them."""
    tables = [refusal.table for refusal in refused_members(connection, publications)]
    for table in tables:
        with short_lock_waits(connection, table), connection.transaction():
            for name in publications:
                if table in _members(connection, name):
                    connection.execute(_drop(name, table))
    return tables


def is_selected(
    connection: "psycopg.Connection[Any]", publications: Sequence[str], table: TableSchema, selection: Selection
) -> bool:
    """Return whether one of the publications has the table as selected, and the server refuses nothing. Takes no lock."""
    for name in publications:
        member = _members(connection, name).get(table.id)
        if member is not None and _marks(connection, name).get(str(table.id)) == _mark(table, selection, member):
            return all(refusal.table != table.id for refusal in refused_members(connection, [name]))
    return False


def set_selection(
    connection: "psycopg.Connection[Any]", name: str, table: TableSchema, selection: Selection
) -> Refusal | None:
    """Let the publication hold the table as selected, unless the server would refuse statements: then return why.

    The schema has every column that is logged. Nothing is written when the publication has the table like this.
    """
    if is_selected(connection, [name], table, selection):
        return None
    with _rolled_back_unless_kept(connection, table.id) as transaction:
        before = _members(connection, name).get(table.id)
        refusal = _try(connection, name, table, selection)
        after = None if refusal is not None else _members(connection, name).get(table.id)
        transaction.is_kept = after is not None and before != after
        if after is not None and transaction.is_kept:
            _record(connection, name, table, _mark(table, selection, after))
    if after is not None and not transaction.is_kept:
        _record(connection, name, table, _mark(table, selection, after))
    return refusal


def try_selection(connection: "psycopg.Connection[Any]", table: TableSchema, selection: Selection) -> Refusal | None:
    """Return why the server would refuse statements if the table were published as selected. Nothing is kept."""
    with _rolled_back_unless_kept(connection, table.id):
        connection.execute(_CREATE_TRIAL)
        return _try(connection, _TRIAL, table, selection)


def _marks(connection: "psycopg.Connection[Any]", name: str) -> dict[str, str]:
    """Return the mark of each table that the publication's comment records."""
    row = connection.execute(_COMMENT_OF, [name]).fetchone()
    with suppress(ValueError, TypeError):
        return dict(json.loads(row[0])) if row is not None else {}
    return {}


def _mark(table: TableSchema, selection: Selection, member: _Member) -> str:
    """Return a digest of what is wanted of the table, and of what the server has made of it."""
    wanted = (selection.where, *selection.selected(table.column_names), selection.has_column_rule, *member)
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:32]


def _record(connection: "psycopg.Connection[Any]", name: str, table: TableSchema, mark: str) -> None:
    """Record the mark of the table in the publication's comment."""
    text = json.dumps(_marks(connection, name) | {str(table.id): mark})
    connection.execute(sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(text)))


#: A publication that no other session ever sees.
_TRIAL: Final = "rosetta__trial"
_CREATE_TRIAL: Final = "CREATE PUBLICATION rosetta__trial WITH (publish_via_partition_root = true)"


def _try(connection: "psycopg.Connection[Any]", name: str, table: TableSchema, selection: Selection) -> Refusal | None:
    """Set the selection within a transaction. Return why it cannot stay."""
    before = _members(connection, name)
    if table.id in before:
        connection.execute(_drop(name, table.id))
    try:
        # One statement only, whatever the condition is: the extended protocol takes no other.
        connection.execute(add_selected(name, table, selection), binary=True)
    except _OF_CONDITIONS as error:
        return _refused_condition(error, table.id, selection)
    if _members(connection, name).keys() != {*before, table.id}:
        # The condition closes its brackets and names other tables.
        return replace(_SOUND, table=table.id, condition_error="it is not one condition")
    refusals = [refusal for refusal in refused_members(connection, [name]) if refusal.table == table.id]
    return refusals[0] if refusals else None


def add_selected(name: str, table: TableSchema, selection: Selection) -> sql.Composed:
    """Return the statement that adds the table with a list of columns and a row filter, as far as it is selected by them."""
    names = sql.SQL(", ").join(map(sql.Identifier, selection.selected(table.column_names)))
    listed = sql.SQL(" ({})").format(names) if selection.has_column_rule else sql.SQL("")
    # A comment at its end ends with the line.
    where = sql.SQL(" WHERE (\n") + sql.SQL(selection.where) + sql.SQL("\n)") if selection.where else sql.SQL("")
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE ONLY {}{}{}").format(
        sql.Identifier(name), sql.Identifier(*table.id), listed, where
    )


def _drop(name: str, table: TableId) -> sql.Composed:
    return sql.SQL("ALTER PUBLICATION {} DROP TABLE ONLY {}").format(sql.Identifier(name), sql.Identifier(*table))


def _members(connection: "psycopg.Connection[Any]", name: str) -> dict[TableId, _Member]:
    rows = connection.execute(_MEMBERS, [name])
    return {TableId(namespace, table): _Member(row_filter, tuple(columns)) for namespace, table, row_filter, columns in rows}


def _refused_condition(error: psycopg.Error, table: TableId, selection: Selection) -> Refusal:
    """Return what the server says of the condition. Raise the error if it is about something else."""
    if selection.where is None or isinstance(error, psycopg.errors.InsufficientPrivilege):
        raise error
    reasons = [error.diag.message_primary or str(error), error.diag.message_detail or ""]
    return replace(_SOUND, table=table, condition_error=". ".join(filter(None, reasons)).rstrip("."))


@dataclass(slots=True)
class _Transaction:
    """Whether what was done is committed."""

    is_kept: bool = False


@contextmanager
def _rolled_back_unless_kept(connection: "psycopg.Connection[Any]", table: TableId) -> Iterator[_Transaction]:
    transaction = _Transaction()
    with short_lock_waits(connection, table), connection.transaction():
        yield transaction
        if not transaction.is_kept:
            raise psycopg.Rollback


@contextmanager
def short_lock_waits(connection: "psycopg.Connection[Any]", table: TableId) -> Iterator[None]:
    """In the block, give up with `SourceUnavailable` while somebody alters the table.

    One table at a time, with a wait shorter than `deadlock_timeout`: so no migration of an application that alters several
    tables is ever the victim of a deadlock.
    """
    connection.execute(_SHORT_WAIT)
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise SourceUnavailable(
            f"Table {table} is locked at the source, so that it cannot be published.",
            "The run restarts by itself, and continues once the transaction that alters the table has ended.",
        ) from None
    finally:
        connection.execute(_NO_LIMIT)

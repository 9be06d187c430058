"""Decides which batches are written without a staging table, and writes them: as literals in statements, in one message.

Creating a staging table, filling it by COPY and emptying it at the commit costs as much as a few hundred rows. When many
tables change, or one row at a time, that is most of the work.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeGuard, cast

import psycopg

from rosetta_dagster.cdc.change.batch import Merge, Step, TableBatch
from rosetta_dagster.cdc.change.event import UNCHANGED, Key, Row, Value
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.postgres import merge_sql
from rosetta_dagster.cdc.destination.postgres.state import StreamState
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.postgres.errors import is_passing
from rosetta_dagster.cdc.table_id import TableId

#: Rows and deleted keys of a step. With more, an existing staging table costs less.
ROW_LIMIT: Final = 1_000

#: Keys of several columns that one statement deletes. The planner considers each key for each partition: planning 200 keys
#: in 200 partitions took a third of a second, 4 at a time a hundredth.
COMPOSITE_KEYS: Final = 4

#: Bytes of a message.
BYTE_LIMIT: Final = 16 * 1024 * 1024

_SAVEPOINT: Final = b"SAVEPOINT rosetta_direct"
_RELEASE: Final = b"RELEASE rosetta_direct"
_ROLLBACK: Final = b"ROLLBACK TO rosetta_direct"


@dataclass(frozen=True)
class _Statements:
    """The statements of one table, up to and after their rows. Each is built at first use."""

    target: TableId
    table: TableSchema
    #: The equal schema in the stream's state. After the table is altered, the state has another object.
    held: TableSchema

    @cached_property
    def delete(self) -> bytes:
        return merge_sql.delete_keys(self.target, self.table).as_bytes()

    @cached_property
    def insert(self) -> bytes:
        return merge_sql.insert_values(self.target, self.table).as_bytes()

    @cached_property
    def on_conflict(self) -> bytes:
        return merge_sql.on_conflict(self.table).as_bytes()

    def text(self, steps: Iterable[Merge]) -> bytes:
        """Return the statements of the steps, in order."""
        return b";\n".join([text for step in steps for text in self._step(step)])

    def _step(self, step: Merge) -> Iterable[bytes]:
        count = ROW_LIMIT if len(self.table.key) == 1 else COMPOSITE_KEYS
        for start in range(0, len(step.deleted), count):
            yield b"%b (%b)" % (self.delete, _listed(step.deleted[start : start + count]))
        if step.rows:
            yield b"%b %b\n%b" % (self.insert, _listed(step.rows), self.on_conflict)


@dataclass(frozen=True, slots=True)
class SmallBatches:
    """The statements of the batches that are small, a text for each, and the batches that are not."""

    texts: Sequence[bytes]
    others: Sequence[TableBatch]


class DirectWriter:
    """Writes small batches over a shared connection."""

    def __init__(
        self,
        connection: "psycopg.Connection[tuple[object, ...]]",
        targets: Targets,
        state: StreamState,
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._state = state
        self._statements: dict[TableId, _Statements] = {}

    def split(self, batches: Sequence[TableBatch]) -> SmallBatches:
        """Return the statements of the small batches, and the other batches."""
        texts = self._texts(batches) if self._takes_any_text() else {}
        return SmallBatches(tuple(texts.values()), [batch for batch in batches if batch.table.id not in texts])

    def write_with(self, small: SmallBatches, move: bytes) -> bool:
        """Send the statements and then `move` in one message outside of any transaction, which the server makes of it.

        Return false when a statement failed. Then nothing is written.
        """
        return self._try_to_execute([*small.texts, move])

    def write(self, small: SmallBatches) -> bool:
        """Run the statements in the open transaction. Return false when one failed. Then nothing is written.

        With a staging table the error says more precisely what is wrong with a row.
        """
        if not small.texts or self._try_to_execute([_SAVEPOINT, *small.texts, _RELEASE]):
            return True
        self._connection.execute(_ROLLBACK)
        return False

    def _takes_any_text(self) -> bool:
        """Return whether the database can encode every character. If not, a message may fail before its savepoint is set."""
        return self._connection.info.parameter_status("server_encoding") == "UTF8"

    def _texts(self, batches: Sequence[TableBatch]) -> dict[TableId, bytes]:
        """Return the statements of the small batches. Tables that are altered between two batches are left out."""
        appearances = Counter(batch.table.id for batch in batches)
        texts: dict[TableId, bytes] = {}
        size = 0
        for batch in batches:
            if appearances[batch.table.id] == 1 and _are_small(batch.steps) and self._build_statements(batch.table):
                text = self._statements[batch.table.id].text(batch.steps)
                size += len(text)
                if size > BYTE_LIMIT:
                    break
                texts[batch.table.id] = text
        return texts

    def _build_statements(self, table: TableSchema) -> bool:
        """Build the table's statements, unless they exist. Return false when the destination's table has another schema."""
        known, held = self._statements.get(table.id), self._state.schemas.get(table.id)
        if known is not None and known.table is table and known.held is held:
            return True
        if not table.key or held is None or held != table or not self._is_assignable(table):
            return False
        self._statements[table.id] = _Statements(self._targets.of(table.id), table, held)
        return True

    def _is_assignable(self, table: TableSchema) -> bool:
        """Return whether a statement may assign to every column. A conflict assigns to none of the key."""
        fixed = self._targets.unassignable(self._connection, table.id)
        return not fixed.generated and fixed.identity <= set(table.key)

    def _try_to_execute(self, statements: Sequence[bytes]) -> bool:
        """Send the statements in one message. Return false when one failed for a reason that does not pass with time."""
        try:
            self._connection.execute(b";\n".join(statements))
        except psycopg.DatabaseError as error:
            if is_passing(error):
                raise
            return False
        return True


def _are_small(steps: Sequence[Step]) -> TypeGuard[Sequence[Merge]]:
    """Return whether the steps are merges of few rows that were all sent whole."""
    return all(
        isinstance(step, Merge)
        and len(step.rows) + len(step.deleted) <= ROW_LIMIT
        and (step.is_whole or not any(UNCHANGED in row for row in step.rows))
        for step in steps
    )


def _listed(rows: Sequence[Row] | Sequence[Key]) -> bytes:
    """Return the rows as SQL literals. The server reads each value as its column's type.

    Most rows contain neither NULL nor quotes, and are joined at once.
    """
    try:
        text = b"'), ('".join(map(b"', '".join, cast("Sequence[tuple[bytes, ...]]", rows)))
    except TypeError:
        # A NULL.
        return b", ".join(map(_tuple, rows))
    has_quotes = text.count(b"'") > 2 * (len(rows) * len(rows[0]) - 1)
    return b", ".join(map(_tuple, rows)) if has_quotes else b"('%b')" % text


def _tuple(row: Row | Key) -> bytes:
    """Return the row's literals in parentheses."""
    return b"(%b)" % b", ".join(map(_literal, row))


def _literal(value: Value) -> bytes:
    """Return a value's text in quotes. With `standard_conforming_strings` on, a backslash has no special meaning."""
    assert value is not UNCHANGED, "rows are sent whole"
    return b"NULL" if value is None else b"'%b'" % value.replace(b"'", b"''")

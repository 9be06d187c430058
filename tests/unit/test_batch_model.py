"""A batch must do to a table what its changes would have done one by one: checked on random changes of few keys."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Step, Truncate, compact
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Key, Operation, Row, Value, key_of
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from tests.support.changes import SOMEWHERE, columns_of, key_row, table

#: The key's columns are neither first nor in order, so that a mixed-up index shows.
KEYED = table("name", "b", "body", "a", key=("a", "b"))
KEYED_FULL = table("name", "b", "body", "a", key=("a", "b"), identity=Identity.FULL)
KEYLESS = table("name", "body", key=(), identity=Identity.FULL)

#: Columns that may be too large to be sent again.
LARGE = ("name", "body")

TEXTS = st.sampled_from([b"x", b"y", None])
KEYS: st.SearchStrategy[Key] = st.tuples(st.sampled_from([b"1", b"2"]), st.sampled_from([b"1", b"2"]))

KeyedRows = dict[Key, Row]


def keyed_row(key: Key, name: Value, body: Value) -> Row:
    a, b = key
    return (name, b, body, a)


def apply_keyed(table_schema: TableSchema, rows: KeyedRows, steps: tuple[Step, ...]) -> KeyedRows:
    """What a destination makes of the steps. It is strict: a row in part, or one to be moved, must be there."""
    rows = dict(rows)
    for step in steps:
        match step:
            case Truncate():
                rows = {}
            case Move(old_key, row):
                old = rows.pop(old_key)
                assert key_of(table_schema, row) not in rows
                rows[key_of(table_schema, row)] = filled(row, old)
            case Merge(merged, deleted):
                keys = [key_of(table_schema, row) for row in merged] + deleted
                assert len(keys) == len(set(keys))
                for key in deleted:
                    rows.pop(key, None)
                for row in merged:
                    key = key_of(table_schema, row)
                    rows[key] = filled(row, rows[key]) if UNCHANGED in row else row
            case Recount():
                raise AssertionError("a table with a key is never recounted")
    return rows


def filled(row: Row, old: Row) -> Row:
    return tuple(before if value is UNCHANGED else value for value, before in zip(row, old, strict=True))


@st.composite
def keyed_histories(draw: st.DrawFn, schema: TableSchema) -> tuple[KeyedRows, list[Change], KeyedRows]:
    """The rows at the start, changes that PostgreSQL could log, and the rows that they lead to one by one."""
    start: KeyedRows = {key: keyed_row(key, draw(TEXTS), draw(TEXTS)) for key in draw(st.sets(KEYS))}
    rows, changes = dict(start), list[Change]()
    for _ in range(draw(st.integers(min_value=0, max_value=12))):
        key = draw(KEYS)
        if draw(st.integers(min_value=0, max_value=19)) == 0:
            changes.append(Change(*SOMEWHERE, 1, Operation.TRUNCATE, schema, None, None))
            rows = {}
        elif key not in rows:
            rows[key] = keyed_row(key, draw(TEXTS), draw(TEXTS))
            changes.append(Change(*SOMEWHERE, 1, Operation.INSERT, schema, rows[key], None))
        elif draw(st.booleans()):
            changes.append(draw(updates(schema, rows, key)))
        else:
            old = rows.pop(key)
            changes.append(Change(*SOMEWHERE, 1, Operation.DELETE, schema, None, logged(schema, old)))
    return start, changes, rows


@st.composite
def updates(draw: st.DrawFn, schema: TableSchema, rows: KeyedRows, key: Key) -> Change:
    """An update of the row, done to `rows` too: of its key when the new one is free, and with values not sent."""
    old = rows[key]
    new_key = draw(KEYS)
    if new_key in rows:
        new_key = key
    new = keyed_row(new_key, draw(TEXTS), draw(TEXTS))
    sent = list(new)
    for index, name in enumerate(schema.column_names):
        if name in LARGE and old[index] == new[index] and new[index] is not None and draw(st.booleans()):
            sent[index] = UNCHANGED
    del rows[key]
    rows[new_key] = new
    is_old_logged = new_key != key or schema.identity is Identity.FULL
    old_row = logged(schema, old) if is_old_logged else None
    return Change(*SOMEWHERE, 1, Operation.UPDATE, schema, tuple(sent), old_row)


def logged(schema: TableSchema, old: Row) -> Row:
    return old if schema.identity is Identity.FULL else key_row(schema, key_of(schema, old))


def steps_of(changes: list[Change]) -> tuple[Step, ...]:
    """What is made of the changes, which is the same when they come as columns."""
    batch = compact(changes)
    assert batch == compact(columns_of(*changes))
    return tuple(step for each in batch.tables for step in each.steps)


@given(keyed_histories(KEYED))
def test_a_batch_does_what_its_changes_would_have_done_one_by_one(
    history: tuple[KeyedRows, list[Change], KeyedRows],
) -> None:
    start, changes, expected = history
    assert expected == apply_keyed(KEYED, start, steps_of(changes))


@given(keyed_histories(KEYED_FULL))
def test_a_batch_of_whole_old_rows_does_the_same_and_never_has_to_move_a_row(
    history: tuple[KeyedRows, list[Change], KeyedRows],
) -> None:
    start, changes, expected = history
    steps = steps_of(changes)
    assert expected == apply_keyed(KEYED_FULL, start, steps)
    assert not [step for step in steps if isinstance(step, Move)]


@given(keyed_histories(KEYED), st.integers(min_value=0, max_value=12))
def test_it_makes_no_difference_where_the_changes_are_cut_into_batches(
    history: tuple[KeyedRows, list[Change], KeyedRows], cut: int
) -> None:
    start, changes, expected = history
    first = apply_keyed(KEYED, start, steps_of(changes[:cut]))
    assert expected == apply_keyed(KEYED, first, steps_of(changes[cut:]))


def apply_keyless(rows: Counter[Row], steps: tuple[Step, ...]) -> Counter[Row]:
    rows = Counter(rows)
    for step in steps:
        match step:
            case Truncate():
                rows = Counter()
            case Recount(inserted, deleted):
                for row, count in deleted:
                    assert rows[row] >= count
                    rows[row] -= count
                for row, count in inserted:
                    rows[row] += count
            case _:
                raise AssertionError("a table without a key is recounted or emptied")
    return +rows


@st.composite
def keyless_histories(draw: st.DrawFn) -> tuple[Counter[Row], list[Change], Counter[Row]]:
    new_rows = st.tuples(TEXTS, TEXTS)
    start: Counter[Row] = Counter(draw(st.lists(new_rows, max_size=4)))
    rows, changes = list(start.elements()), list[Change]()
    for _ in range(draw(st.integers(min_value=0, max_value=12))):
        if draw(st.integers(min_value=0, max_value=19)) == 0:
            changes.append(Change(*SOMEWHERE, 1, Operation.TRUNCATE, KEYLESS, None, None))
            rows = []
        elif not rows or draw(st.booleans()):
            rows.append(draw(new_rows))
            changes.append(Change(*SOMEWHERE, 1, Operation.INSERT, KEYLESS, rows[-1], None))
        else:
            old = rows.pop(draw(st.integers(min_value=0, max_value=len(rows) - 1)))
            changes.append(draw(keyless_ends(rows, old)))
    return start, changes, Counter(rows)


@st.composite
def keyless_ends(draw: st.DrawFn, rows: list[Row], old: Row) -> Change:
    """A delete of the old row, or an update of it, which is added to `rows`."""
    if draw(st.booleans()):
        return Change(*SOMEWHERE, 1, Operation.DELETE, KEYLESS, None, old)
    new = draw(st.tuples(TEXTS, TEXTS))
    rows.append(new)
    is_body_sent = new[1] is None or new[1] != old[1] or draw(st.booleans())
    return Change(*SOMEWHERE, 1, Operation.UPDATE, KEYLESS, new if is_body_sent else (new[0], UNCHANGED), old)


@given(keyless_histories())
def test_a_batch_of_a_table_without_a_key_leaves_the_same_multiset_of_rows(
    history: tuple[Counter[Row], list[Change], Counter[Row]],
) -> None:
    start, changes, expected = history
    assert expected == apply_keyless(start, steps_of(changes))

"""Any changes in any batches leave what they would leave one by one."""

import random
from collections.abc import Iterator
from itertools import islice

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Row
from rosetta_dagster.cdc.change.schema import TableSchema
from tests.support.changes import Text, delete, delete_whole, insert, key_row, rekey, row, table, truncate, update
from tests.support.destinations import DestinationKind, TextRow, in_order
from tests.support.replica import (
    AWKWARD_TEXTS,
    ITEMS,
    NOTES,
    PAIRS,
    Open,
    keyless,
)


class TestOneBatch:
    def test_the_last_of_several_updates_of_a_row_wins(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "first", "1"), *(update(ITEMS, "1", f"name {n}", str(n)) for n in range(20)))
        assert [("1", "name 19", "19")] == replica.rows(ITEMS)

    def test_insert_update_and_delete_of_one_key_leave_nothing(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "2", "stays", None))
        replica.apply(insert(ITEMS, "1", "a", None), update(ITEMS, "1", "b", None), delete(ITEMS, "1"))
        assert [("2", "stays", None)] == replica.rows(ITEMS)

    def test_a_row_deleted_and_inserted_again_is_the_new_one(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "old", "old"))
        replica.apply(delete(ITEMS, "1"), insert(ITEMS, "1", "new", None))
        assert [("1", "new", None)] == replica.rows(ITEMS)

    def test_inserts_updates_and_deletes_of_different_rows_are_all_done(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", None), insert(ITEMS, "2", "b", None), insert(ITEMS, "3", "c", None))
        replica.apply(delete(ITEMS, "1"), update(ITEMS, "2", "B", "big"), insert(ITEMS, "4", "d", None))
        assert [("2", "B", "big"), ("3", "c", None), ("4", "d", None)] == replica.rows(ITEMS)

    def test_tables_of_one_batch_are_written_each_to_its_own(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS, NOTES)
        replica.apply(
            insert(ITEMS, "1", "a", None),
            insert(PAIRS, "b", "v", "a"),
            insert(NOTES, "x", "y"),
            insert(ITEMS, "2", "b", None),
        )
        assert [("1", "a", None), ("2", "b", None)] == replica.rows(ITEMS)
        assert [("b", "v", "a")] == replica.rows(PAIRS)
        assert [("x", "y")] == replica.rows(NOTES)

    @pytest.mark.parametrize("row_count", [1, 1_000, 100_000])
    def test_a_batch_may_be_of_any_size(self, begin: Open, row_count: int) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, f"{n:06}", f"name {n}", None) for n in range(row_count)))
        replica.apply(
            *(update(ITEMS, f"{n:06}", UNCHANGED, "big") for n in range(0, row_count, 2)),
            *(delete(ITEMS, f"{n:06}") for n in range(1, row_count, 2)),
        )
        assert [(f"{n:06}", f"name {n}", "big") for n in range(0, row_count, 2)] == replica.rows(ITEMS)

    def test_a_row_that_exists_already_is_replaced_also_among_many_new_ones(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS)
        replica.apply(insert(ITEMS, "050", "theirs", "small"))
        replica.apply(
            insert(PAIRS, "b", "v", "a"), *(insert(ITEMS, f"{n:03}", f"name {n}", None) for n in range(100)),
        )  # fmt: skip
        assert [(f"{n:03}", f"name {n}", None) for n in range(100)] == replica.rows(ITEMS)
        assert [("b", "v", "a")] == replica.rows(PAIRS)

    def test_an_unchanged_row_of_a_table_that_is_all_key_stays(self, begin: Open) -> None:
        links = table("a", "b", key=("a", "b"), name="links")
        replica = begin(links)
        replica.apply(insert(links, "1", "2"), insert(links, "1", "3"))
        replica.apply(update(links, "1", "2"), delete(links, "1", "3"), insert(links, "2", "2"))
        assert [("1", "2"), ("2", "2")] == replica.rows(links)


class TestTruncate:
    def test_what_comes_before_it_in_the_batch_is_gone_and_what_comes_after_stays(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS)
        replica.apply(insert(ITEMS, "0", "old", None), insert(ITEMS, "1", "old", None), insert(PAIRS, "b", "stays", "a"))
        replica.apply(
            insert(ITEMS, "2", "before", None), truncate(ITEMS), insert(ITEMS, "1", "after", None), delete(ITEMS, "1"),
            insert(ITEMS, "3", "after", None),
        )  # fmt: skip
        assert [("3", "after", None)] == replica.rows(ITEMS)
        assert [("b", "stays", "a")] == replica.rows(PAIRS)

    def test_a_truncate_at_the_end_leaves_nothing(self, begin: Open) -> None:
        replica = begin(ITEMS, NOTES)
        replica.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "a", "b"))
        replica.apply(insert(ITEMS, "2", "b", None), truncate(ITEMS), insert(NOTES, "c", "d"), truncate(NOTES))
        assert [] == replica.rows(ITEMS)
        assert [] == replica.rows(NOTES)

    def test_after_it_a_row_may_be_changed_in_part(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "old", "old"))
        replica.apply(
            truncate(ITEMS),
            insert(ITEMS, "1", "new", "large"),
            update(ITEMS, "1", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("1",), "2", "newer", UNCHANGED),
        )
        assert [("2", "newer", "large")] == replica.rows(ITEMS)


#: One more than there are rows at most, so that a row always finds a new key.
KEYS = [str(n) for n in range(8)]


class Model:
    """What a table holds, changed one change at a time; makes changes that the table allows."""

    def __init__(self, schema: TableSchema, dice: random.Random) -> None:
        self.schema = schema
        self.held: dict[str, TextRow] = {}
        self._dice = dice

    def changes(self) -> Iterator[Change]:
        """Changes without an end."""
        while True:
            is_new = not self.held or (len(self.held) < len(KEYS) and self._dice.random() < 0.3)
            key = None if is_new else self._dice.choice(sorted(self.held))
            if self._dice.random() < 0.01:
                self.held = {}
                yield truncate(self.schema)
            elif key is None:
                new_key = self._free_key()
                self.held[new_key] = (new_key, self._text(), self._text())
                yield insert(self.schema, *self.held[new_key])
            elif self._dice.random() < 0.2:
                whole = self.held.pop(key)
                yield delete(self.schema, key) if self.schema.key else delete_whole(self.schema, *whole)
            else:
                yield self._update(key)

    def _update(self, key: str) -> Change:
        """An update of some columns; the key changes now and then, and the other values are sent or not."""
        before = self.held.pop(key)
        new_key = self._free_key() if self._dice.random() < 0.3 else key
        sent: list[Text] = [new_key]
        after: list[str | None] = [new_key]
        for value in before[1:]:
            is_sent = self._dice.random() < 0.5
            after.append(self._text() if is_sent else value)
            sent.append(after[-1] if is_sent else UNCHANGED)
        self.held[new_key] = tuple(after)
        return update(self.schema, *sent, old=self._old_row(before, new_key))

    def _old_row(self, before: TextRow, new_key: str) -> Row | None:
        if not self.schema.key:
            return row(*before)
        return None if before[0] == new_key else key_row(self.schema, row(before[0]))

    def _free_key(self) -> str:
        return self._dice.choice([text for text in KEYS if text not in self.held])

    def _text(self) -> str | None:
        return self._dice.choice([*AWKWARD_TEXTS, None])


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))])
@pytest.mark.parametrize("schema", [ITEMS, keyless("id", "name", "size")], ids=["key", "no key"])
def test_any_changes_in_any_batches_leave_what_they_leave_one_by_one(
    begin: Open, kind: DestinationKind, schema: TableSchema, seed: int
) -> None:
    dice = random.Random(seed)
    model, replica = Model(schema, dice), begin(schema)
    changes = model.changes()
    for _ in range(kind.random_batches):
        replica.apply(*islice(changes, dice.randint(1, 60)))
        assert in_order(list(model.held.values())) == replica.rows(schema)

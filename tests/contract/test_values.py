"""Any value arrives under any name, and values that were not sent stay."""

from dataclasses import replace
from itertools import chain

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import Text, delete, delete_whole, insert, rekey, row, table, truncate, update
from tests.support.destinations import DestinationKind, TextRow, in_order
from tests.support.replica import AWKWARD_TEXTS, ITEMS, NOTES, ODD_NAMES, Open, copy, keyless, typed


class TestValuesThatWereNotSent:
    def test_they_are_taken_from_a_row_inserted_in_the_same_batch(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), update(ITEMS, "1", "b", UNCHANGED))
        assert [("1", "b", "large")] == replica.rows(ITEMS)

    def test_they_are_left_as_an_earlier_batch_wrote_them(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), insert(ITEMS, "2", "b", "larger"))
        replica.apply(update(ITEMS, "1", UNCHANGED, "small"), update(ITEMS, "2", "B", UNCHANGED))
        assert [("1", "a", "small"), ("2", "B", "larger")] == replica.rows(ITEMS)

    def test_null_is_written_beside_them(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), insert(ITEMS, "2", "b", "larger"))
        replica.apply(update(ITEMS, "1", None, UNCHANGED), update(ITEMS, "2", UNCHANGED, None))
        assert [("1", None, "large"), ("2", "b", None)] == replica.rows(ITEMS)

    def test_a_column_set_to_null_stays_null_when_the_same_batch_leaves_it_alone(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"))
        replica.apply(
            update(ITEMS, "1", UNCHANGED, None), update(ITEMS, "1", "b", UNCHANGED), update(ITEMS, "1", UNCHANGED, UNCHANGED)
        )
        assert [("1", "b", None)] == replica.rows(ITEMS)

    def test_a_column_set_to_null_in_an_earlier_batch_stays_null(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"))
        replica.apply(update(ITEMS, "1", UNCHANGED, None))
        replica.apply(update(ITEMS, "1", "b", UNCHANGED))
        assert [("1", "b", None)] == replica.rows(ITEMS)

    def test_whole_rows_and_rows_in_part_go_through_one_batch(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), "a", "large") for n in range(4)))
        replica.apply(
            update(ITEMS, "0", "b", UNCHANGED),
            update(ITEMS, "1", "b", "small"),
            delete(ITEMS, "2"),
            update(ITEMS, "3", UNCHANGED, UNCHANGED),
            insert(ITEMS, "4", "b", "new"),
        )
        assert [("0", "b", "large"), ("1", "b", "small"), ("3", "a", "large"), ("4", "b", "new")] == replica.rows(ITEMS)

    def test_values_of_other_types_are_left_alone_as_well(self, begin: Open) -> None:
        schema = typed({"id": "integer", "image": "bytea", "document": "json", "amount": "numeric"}, "id")
        replica = begin(schema)
        replica.apply(insert(schema, "1", "\\x00ff5c", '{"a":  1}', "1.50"))
        replica.apply(update(schema, "1", UNCHANGED, UNCHANGED, "2.50"))
        replica.apply(rekey(schema, ("1",), "2", UNCHANGED, '{"b": [2]}', "3.50"))
        replica.apply(rekey(schema, ("2",), "3", "\\x5c4e", UNCHANGED, "4.50"))
        assert [("3", "\\x5c4e", '{"b": [2]}', "4.50")] == replica.rows(schema)


class TestValuesAndNames:
    def test_any_text_is_written_as_it_is(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), text, None) for n, text in enumerate(AWKWARD_TEXTS)))
        assert in_order([(str(n), text, None) for n, text in enumerate(AWKWARD_TEXTS)]) == replica.rows(ITEMS)

    def test_any_text_is_written_beside_values_that_were_not_sent(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), None, "kept") for n in range(len(AWKWARD_TEXTS))))
        replica.apply(*(update(ITEMS, str(n), text, UNCHANGED) for n, text in enumerate(AWKWARD_TEXTS)))
        assert in_order([(str(n), text, "kept") for n, text in enumerate(AWKWARD_TEXTS)]) == replica.rows(ITEMS)

    def test_any_text_may_be_a_key_that_moves_to_any_other(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, text, text, f"kept {n}") for n, text in enumerate(AWKWARD_TEXTS)))
        replica.apply(*(rekey(ITEMS, (text,), f"{text}!", text, UNCHANGED) for text in AWKWARD_TEXTS))
        moved: list[TextRow] = [(f"{text}!", text, f"kept {n}") for n, text in enumerate(AWKWARD_TEXTS)]
        assert in_order(moved) == replica.rows(ITEMS)
        replica.apply(*(delete(ITEMS, f"{text}!") for text in AWKWARD_TEXTS[1:]))
        assert moved[:1] == replica.rows(ITEMS)

    def test_any_text_is_found_in_a_table_without_a_key(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*(insert(NOTES, text, None) for text in AWKWARD_TEXTS), insert(NOTES, None, None))
        assert in_order([*((text, None) for text in AWKWARD_TEXTS), (None, None)]) == replica.rows(NOTES)
        replica.apply(*(delete_whole(NOTES, text, None) for text in AWKWARD_TEXTS))
        assert [(None, None)] == replica.rows(NOTES)

    def test_columns_may_have_any_names(self, begin: Open, kind: DestinationKind) -> None:
        names = [name for name in ODD_NAMES if name not in kind.unusable_columns]
        schema = table(*names, key=(names[0], names[10]))
        replica = begin(schema)
        values = [f"value {n}" for n in range(len(names))]
        replica.apply(insert(schema, *values), insert(schema, "gone", *values[1:]))
        replica.apply(update(schema, *values[:-1], UNCHANGED), delete(schema, "gone", values[10]))
        assert [tuple(values)] == replica.rows(schema)
        moved: list[Text] = [UNCHANGED] * len(values)
        moved[0], moved[1], moved[10] = "moved", "new", values[10]
        replica.apply(rekey(schema, (values[0], values[10]), *moved))
        assert [("moved", "new", *values[2:])] == replica.rows(schema)

    def test_columns_of_a_table_without_a_key_may_have_any_names(self, begin: Open, kind: DestinationKind) -> None:
        names = [name for name in ODD_NAMES if name not in kind.unusable_columns]
        schema = keyless(*names)
        replica = begin(schema)
        values = [f"value {n}" for n in range(len(names))]
        replica.apply(insert(schema, *values), insert(schema, *values))
        replica.apply(update(schema, "new", *[UNCHANGED] * (len(values) - 1), old=row(*values)))
        assert [("new", *values[1:]), tuple(values)] == replica.rows(schema)

    def test_a_table_and_its_namespace_may_have_any_name(self, begin: Open, kind: DestinationKind) -> None:
        names = [name for name in ODD_NAMES if name not in kind.unusable_namespaces]
        assert 15 < len(names)
        schemas = [replace(ITEMS, id=TableId(name, name)) for name in names]
        replica = begin(*schemas, copied=False)
        copy(replica.destination, schemas, b"1\ta\tkept\n")
        changed = [(update(schema, "1", "b", UNCHANGED), insert(schema, "2", "c", None)) for schema in schemas]
        replica.apply(*chain.from_iterable(changed))
        assert {name: [("1", "b", "kept"), ("2", "c", None)] for name in names} == {
            schema.id.name: replica.rows(schema) for schema in schemas
        }
        replica.apply(*map(truncate, schemas))
        assert not any(replica.rows(schema) for schema in schemas)

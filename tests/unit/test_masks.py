"""What each mask makes of a value, a row, a line of a copy and a column, and which masks a column can have."""

import hashlib
import hmac
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.fingerprint import Fingerprint, missed_changes_reason
from rosetta_dagster.cdc.change.mask import hmac_of, mask_of, masked_column, misfit
from rosetta_dagster.cdc.change.masking import Masking, block_masker, compared, keeps_masks, row_masker, unmasked
from rosetta_dagster.cdc.change.schema import Column, Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.destination.state import schema_from_json, schema_to_json
from rosetta_dagster.cdc.table_id import TableId

SALT = b"a salt that is long enough"

ID = Column(name="id", type="integer", type_oid=23, base_oid=23, not_null=True, number=1)
EMAIL = Column(name="email", type="character varying(40)", type_oid=1043, base_oid=1043, type_modifier=44, number=2)
BORN = Column(name="born", type="date", type_oid=1082, base_oid=1082, not_null=True, number=3)

FINGERPRINT = Fingerprint(oid=1, is_partitioned=False, row_type="1", column_count=3, leaves=(), membership="7")
PEOPLE = TableSchema(
    id=TableId("public", "people"), columns=(ID, EMAIL, BORN), key=("id",), identity=Identity.KEY, fingerprint=FINGERPRINT
)


def masking(salt: bytes = SALT, **rules: str) -> Masking:
    return Masking({PEOPLE.id: rules}, lambda: salt)


@pytest.mark.parametrize("salt", [SALT, b"x" * 64, b"x" * 65, b"x" * 200])
@pytest.mark.parametrize("value", [b"", b"someone@example.com", "ö".encode() * 100])
def test_a_hash_is_hmac_sha_256(salt: bytes, value: bytes) -> None:
    assert hmac.new(salt, value, hashlib.sha256).hexdigest().encode() == hmac_of(salt)(value)


@pytest.mark.parametrize(
    ("mask", "value", "expected"),
    [
        ("redact", b"anything", b"***"),
        ("keep_last(4)", b"555-1234", b"***1234"),
        # A short value would be shown whole.
        ("keep_last(4)", b"1234", b"***"),
        ("keep_last(2)", "aöü".encode(), "***öü".encode()),
        ("year", b"2024-02-29", b"2024"),
        ("year", b"2024-02-29 23:59:59.9+00", b"2024"),
        ("year", b"0044-03-15 BC", b"-44"),
        ("year", b"12024-01-01", b"12024"),
        ("year", b"infinity", None),
        ("year", b"-infinity", None),
    ],
)
def test_a_mask_leaves_of_a_value_what_it_says(mask: str, value: bytes, expected: bytes | None) -> None:
    assert expected == mask_of(mask, SALT)(value)


def test_a_row_is_masked_where_it_has_a_value_that_was_sent() -> None:
    mask = row_masker(
        masking(email="redact", born="year").steps(masking(email="redact", born="year").schema(PEOPLE).columns)
    )
    assert (b"1", b"***", b"2024") == mask((b"1", b"x", b"2024-01-01"))
    assert (b"1", UNCHANGED, None) == mask((b"1", UNCHANGED, None))


def test_lines_of_a_copy_are_masked_by_their_values_and_stay_lines() -> None:
    mask = block_masker([(1, lambda value: value[::-1]), (2, lambda value: None)])
    block = b"1\ta\\tb\\\\c\tx\trest\\n\n2\t\\N\t\\N\trest\n"
    assert b"1\tc\\\\b\\ta\t\\N\trest\\n\n2\t\\N\t\\N\trest\n" == mask(block)


def test_a_masked_column_has_the_type_of_what_it_holds_and_knows_its_own() -> None:
    masked = masking(email="hash", born="year").schema(replace(PEOPLE, columns=(ID, EMAIL, BORN)))
    assert [("integer", True), ("text", False), ("integer", False)] == [
        (each.type, each.not_null) for each in masked.columns
    ]
    assert PEOPLE == unmasked(masked)
    assert ("id",) == compared(masked).column_names
    assert masked == schema_from_json(schema_to_json(masked))


def test_what_older_rows_have_in_a_masked_column_is_masked_too() -> None:
    column = replace(EMAIL, filling=OldRowValues.CONSTANT, fill_value="planted")
    masked = masking(email="hash").schema(replace(PEOPLE, columns=(ID, column)))
    assert hmac_of(SALT)(b"planted") == (masked.columns[1].fill_value or "").encode()
    assert "planted" not in schema_to_json(masked)


def test_other_masks_and_another_salt_are_a_gap_and_the_salt_of_no_hash_is_not() -> None:
    marks = [
        masked.schema(PEOPLE).fingerprint
        for masked in (masking(email="hash"), masking(b"y" * 16, email="hash"), masking(email="redact"))
    ]
    assert None not in marks
    for mark in marks[1:]:
        assert "masked in another way" in (missed_changes_reason(marks[0], mark, follows_oid=True) or "")  # type: ignore[arg-type]
    assert marks[2] == masking(b"", email="redact").schema(PEOPLE).fingerprint
    assert PEOPLE.fingerprint == masking().schema(PEOPLE).fingerprint


def test_a_renamed_or_replaced_column_is_not_the_masked_one() -> None:
    known = masking(email="hash").schema(PEOPLE)
    assert keeps_masks(known, PEOPLE)
    assert keeps_masks(known, replace(PEOPLE, columns=(ID, replace(EMAIL, number=0), BORN)))
    assert not keeps_masks(known, replace(PEOPLE, columns=(ID, replace(EMAIL, name="mail"), BORN)))
    swapped = (ID, replace(EMAIL, name="mail"), replace(EMAIL, number=4))
    assert not keeps_masks(known, replace(PEOPLE, columns=swapped))


@pytest.mark.parametrize(
    ("column", "mask", "is_key", "expected"),
    [
        (EMAIL, "hash", True, None),
        (BORN, "year", False, None),
        (replace(EMAIL, type="public.citext", base_oid=90_000), "keep_last(3)", False, None),
        (EMAIL, "redact", True, "it is of the key, and only hash keeps keys apart"),
        (EMAIL, "year", False, "year needs a date or a timestamp, and it is character varying(40)"),
        (BORN, "keep_last(2)", False, "keep_last(2) needs a text, a number or a uuid, and it is date"),
    ],
)
def test_a_mask_has_to_fit_its_column(column: Column, mask: str, is_key: bool, expected: str | None) -> None:
    assert expected == misfit(column, mask, is_key=is_key)


def test_a_masked_column_shows_no_value_of_a_row() -> None:
    column = masked_column(replace(EMAIL, fill_value="planted"), "redact")
    assert column.unmasked is not None
    assert column.unmasked.fill_value is None

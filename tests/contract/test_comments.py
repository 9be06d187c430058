"""Comments of a table and its columns are copied with it, unless the option says otherwise."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import StreamIdentity
from tests.support.changes import table
from tests.support.destinations import KINDS, DestinationKind, make

IDENTITY = StreamIdentity(pipeline="shop", system_identifier="7000000000000000001", slot_name="rosetta_shop")
POINT = SnapshotPoint(Lsn(16), XidSnapshot(100, 100, frozenset()))
AWKWARD = 'it\'s 100 % \\n "quoted"; naïve\n-- two lines'


def commented(schema: TableSchema, comment: str | None) -> TableSchema:
    first, *others = schema.columns
    return replace(schema, comment=comment, columns=(replace(first, comment=comment), *others))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> DestinationKind:
    return KINDS[request.param](request)


def copied(kind: DestinationKind, schema: TableSchema, *, comments: bool = True) -> dict[str, str]:
    """The comments at the destination after a copy; that of the table by an empty name."""
    destination = make(kind, [schema], comments=comments)
    destination.open(IDENTITY)
    destination.prepare([schema])
    destination.start_copy([schema], POINT)
    with destination.loader() as loader:
        loader.complete(schema)
    destination.finish_copy(schema)
    destination.close()
    return kind.comments(schema.id)


def test_comments_are_copied_with_any_text(kind: DestinationKind) -> None:
    assert {"": AWKWARD, "id": AWKWARD} == copied(kind, commented(table("id", "name"), AWKWARD))


def test_comments_are_left_out_when_the_option_says_so(kind: DestinationKind) -> None:
    assert {} == copied(kind, commented(table("id", "name"), "secret plans"), comments=False)


def test_comments_follow_when_the_table_is_copied_again(kind: DestinationKind) -> None:
    copied(kind, commented(table("id", "name"), "before"))
    assert {"": "after", "id": "after"} == copied(kind, commented(table("id", "name"), "after"))

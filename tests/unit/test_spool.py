"""Changes that wait for a copy, in memory and in a temporary file."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rosetta_dagster.cdc.copy import spool
from rosetta_dagster.cdc.copy.spool import Spool
from rosetta_dagster.cdc.errors import SpoolUnavailable
from rosetta_dagster.cdc.report import Spooled
from tests.support.changes import delete, insert, table, update

ITEMS, WIDER = table("id", "name"), table("id", "name", "added")
NOON, LATER = datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(2024, 5, 1, 13, tzinfo=UTC)


@pytest.fixture(params=[10, spool.MEMORY_LIMIT], ids=["file", "memory"])
def new_spool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Spool:
    monkeypatch.setattr(spool, "MEMORY_LIMIT", request.param)
    return Spool()


def test_changes_come_back_in_order_with_the_schemas_that_they_had(new_spool: Spool) -> None:
    first = [insert(ITEMS, "1", "a"), update(WIDER, "1", "b", None)]
    second = [delete(ITEMS, "1")]
    new_spool.put(first)
    new_spool.put(second)
    taken = new_spool.take()
    assert first == taken
    assert [ITEMS, WIDER] == [change.table for change in taken]
    assert ITEMS is taken[0].table
    new_spool.put(first)
    assert [second, first, []] == [new_spool.take() for _ in range(3)]
    new_spool.close()


def test_the_size_is_that_of_what_was_not_taken_yet(new_spool: Spool) -> None:
    assert Spooled() == new_spool.size
    new_spool.put([], NOON)
    assert new_spool.is_empty
    new_spool.put([insert(ITEMS, "1", "a"), insert(ITEMS, "2", "a")], NOON)
    whole = new_spool.size
    assert (2, NOON) == (whole.changes, whole.oldest_commit_at)
    new_spool.put([insert(ITEMS, "3", "a")], LATER)
    assert (3, NOON) == (new_spool.size.changes, new_spool.size.oldest_commit_at)
    assert whole.bytes < new_spool.size.bytes
    new_spool.take()
    assert (1, LATER) == (new_spool.size.changes, new_spool.size.oldest_commit_at)
    new_spool.take()
    assert Spooled() == new_spool.size
    new_spool.close()


def test_a_directory_that_cannot_be_written_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MEMORY_LIMIT", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    unwritable = Spool()
    with pytest.raises(SpoolUnavailable, match=rf"{tmp_path}/missing: No such file or directory\..* set TMPDIR") as raised:
        unwritable.put([insert(ITEMS, "secret", "a")])
    unwritable.close()
    assert raised.value.transient
    assert "secret" not in str(raised.value)


def test_no_directory_at_all_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(spool, "MEMORY_LIMIT", 10)
    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", refuse)
    homeless = Spool()
    with pytest.raises(SpoolUnavailable, match="none of TMPDIR, /tmp"):
        homeless.put([insert(ITEMS, "1", "a")])
    homeless.close()


def test_a_full_disk_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MEMORY_LIMIT", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: Path("/dev/full").open("r+b"))  # noqa: SIM115 - `close` closes it
    full = Spool()
    with pytest.raises(SpoolUnavailable, match=r"No space left on device\. Free space there"):
        full.put([insert(ITEMS, "1", "a" * 100_000)])
    full.close()

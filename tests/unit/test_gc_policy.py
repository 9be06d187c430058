import gc
import weakref

import pytest

from rosetta_dagster.cdc.run import gc_policy
from rosetta_dagster.cdc.run.gc_policy import RareCollections


class Circle:
    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_until_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    with RareCollections() as collections:
        assert not gc.isenabled()
        circle = weakref.ref(Circle())
        collections.collect_if_due()
        assert circle() is not None
        monkeypatch.setattr(gc_policy, "INTERVAL", 0)
        collections.collect_if_due()
        assert circle() is None


def test_a_run_that_ends_leaves_the_collector_on() -> None:
    with pytest.raises(ValueError, match="broken"), RareCollections():
        raise ValueError("broken")
    assert gc.isenabled()

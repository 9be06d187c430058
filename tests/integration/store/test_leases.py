"""One run of a pipeline at a time: the lease, and what becomes of it when a connection breaks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import LeaseHeld, StoreUnavailable
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import Database, end_connections


def test_a_lease_excludes_a_second_run_of_the_same_pipeline_only(store: Store, other_store: Store) -> None:
    with store.lease(1) as lease:
        with pytest.raises(LeaseHeld, match="Another run has this pipeline"), other_store.lease(1):
            pass
        with pytest.raises(LeaseHeld), store.lease(1):
            pass
        with other_store.lease(2):
            lease.check()
    with other_store.lease(1):
        pass


def test_a_lease_is_free_after_an_error_within(store: Store, other_store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lease(1):
        raise ZeroDivisionError
    with other_store.lease(1):
        pass


def test_a_lease_is_free_when_its_connection_died_and_the_first_run_notices(
    store: Store, other_store: Store, config_database: Database
) -> None:
    with store.lease(1) as lease:
        end_connections(config_database)
        with other_store.lease(1):
            with pytest.raises(StoreUnavailable):
                lease.check()
            with pytest.raises(LeaseHeld):
                lease.check()


def test_a_lease_whose_connection_broke_is_taken_again_when_nobody_else_has_it(
    store: Store, other_store: Store, config_database: Database
) -> None:
    with store.lease(1) as lease:
        end_connections(config_database)
        with pytest.raises(StoreUnavailable):
            lease.check()
        lease.check()
        with pytest.raises(LeaseHeld), other_store.lease(1):
            pass


def test_only_one_of_many_that_ask_at_once_gets_the_lease(config_database: Database) -> None:
    barrier, done = threading.Barrier(6), threading.Barrier(6)

    def ask() -> bool:
        with Store(SecretStr(config_database.url)) as store:
            barrier.wait(20)
            try:
                with store.lease(1):
                    done.wait(20)
            except LeaseHeld:
                done.wait(20)
                return False
            return True

    with ThreadPoolExecutor(6) as pool:
        assert [False] * 5 + [True] == sorted(asked.result(30) for asked in [pool.submit(ask) for _ in range(6)])

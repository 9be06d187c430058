"""A supervised run of a pipeline, as a Dagster step has it."""

import threading
from contextlib import closing
from typing import Any

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.waiting import TIMEOUT


def put_rows(
    store: Store,
    source: Database,
    destination: Database,
    *tables: str,
    engine: Engine = Engine.PGOUTPUT,
    **options: Any,
) -> str:
    """Write the rows of a pipeline that is to run, of `public.items` unless tables are named; its name."""
    put_source(store, DeclaredSource(name="db", connection=source.connection))
    put_destination(store, DeclaredDestination(name="dw", type="POSTGRES", config=destination.config))
    # The name is in the slot's, and slots are of the whole server.
    name = source.connection.database
    ids = tuple(map(TableId.parse, tables or ["public.items"]))
    put_pipeline(
        store,
        DeclaredPipeline(
            name=name, source="db", destinations=("dw",), tables=ids, engine=engine, status=Status.START, **options
        ),
    )
    return name


class Run:
    """A supervised run in a thread of its own, as a Dagster step has it."""

    def __init__(self, store: Store, name: str) -> None:
        self.error: RosettaError | None = None
        self._store, self._name = store, name
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with closing(supervision.supervise(self._store, self._name, "a-run")) as reports:
                for _ in reports:
                    pass
        except RosettaError as error:
            self.error = error

    def wait(self) -> RosettaError | None:
        """What the run ended with; None when it ended as it was told to."""
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        return self.error

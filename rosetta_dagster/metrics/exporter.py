"""Reads the configuration database for those who ask, at most once a second however many ask."""

import threading
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rosetta_dagster.cdc.config.pipeline import Health
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.measurements import Measurements, read_measurements
from rosetta_dagster.cdc.store.session import StoreSession
from rosetta_dagster.metrics.families import families

#: Seconds for which a reading is served again, and for which a database that failed is not asked again.
FRESH_SECONDS: Final = 1.0

_NOTHING: Final = Measurements(pipelines=(), tables=())


class Exporter(Collector):
    """The figures of every pipeline. Any thread may ask."""

    def __init__(self, store: StoreSession) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._found = _NOTHING
        self._error: RosettaError | None = None

    def measurements(self) -> Measurements:
        """Return a reading that is at most a second old. Raise why the database could not be read."""
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._read()
            if self._error is not None:
                raise self._error
            return self._found

    def health(self) -> dict[str, str]:
        """Return the health of each pipeline, by name."""
        return {found.pipeline: Health(found.health).value for found in self.measurements().pipelines}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Without the database only that says so, so that nothing old is taken as current."""
        try:
            found, is_up = self.measurements(), True
        except RosettaError:
            found, is_up = _NOTHING, False
        up = GaugeMetricFamily("rosetta_config_database_up", "1 while the configuration database can be read.")
        up.add_metric([], float(is_up))
        yield up
        yield from families(found)

    def _read(self) -> None:
        try:
            self._found, self._error = read_measurements(self._store), None
        except RosettaError as error:
            self._error = error
        self._read_at = time.monotonic()

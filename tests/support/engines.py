"""Which capture engines a test runs over, where it is not both."""

import pytest

from rosetta_dagster.cdc.change.position import Engine

only_debezium = pytest.mark.parametrize("engine", [Engine.DEBEZIUM])
only_pgoutput = pytest.mark.parametrize("engine", [Engine.PGOUTPUT])

#: For what a copy or a destination does, in which no engine takes part: `make test-long` repeats it over Debezium.
debezium_in_the_long_run = pytest.mark.parametrize(
    "engine", [Engine.PGOUTPUT, pytest.param(Engine.DEBEZIUM, marks=pytest.mark.long)]
)

"""Which capture engines a test runs over, where it is not both."""

import pytest

from rosetta_dagster.cdc.change.position import Engine

only_debezium = pytest.mark.parametrize("engine", [Engine.DEBEZIUM])
only_pgoutput = pytest.mark.parametrize("engine", [Engine.PGOUTPUT])

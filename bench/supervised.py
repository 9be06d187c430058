"""The process of a pipeline as a run of Dagster has it, without Dagster: it follows its row and reports to it.

It ends when its row says PAUSE.
"""

import sys
import uuid
from contextlib import closing

from rosetta_dagster.cdc.run.supervision import supervise
from rosetta_dagster.settings import open_store


def run_id(pipeline: str) -> str:
    """The run that the row names, and that Dagster takes for alive in `bench.ticks`."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, pipeline))


def main() -> None:
    name = sys.argv[1]
    with open_store() as store, closing(supervise(store, name, run_id(name))) as reports:
        for _ in reports:
            pass


if __name__ == "__main__":
    main()

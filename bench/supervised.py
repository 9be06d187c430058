"""The process of a supervised run, without Dagster: it follows its row and reports to it.

It ends when its row says PAUSE.
"""

import sys
import uuid
from contextlib import closing

from rosetta_dagster.cdc.run.supervision import supervise
from rosetta_dagster.settings import open_store


def run_id(pipeline: str) -> str:
    """The run id of the row. In `bench.ticks`, Dagster considers this run alive."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, pipeline))


def main() -> None:
    name = sys.argv[1]
    with open_store() as store, closing(supervise(store, name, run_id(name))) as reports:
        for _ in reports:
            pass


if __name__ == "__main__":
    main()

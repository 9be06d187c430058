"""Serves one emulated account until a signal ends it: `python -m rosetta_dagster.embedded.snowflake.emulator SETUP`."""

import logging
import sys
import warnings
from pathlib import Path

import uvicorn

from rosetta_dagster.embedded.snowflake.emulator import patches
from rosetta_dagster.embedded.snowflake.emulator.account import Account
from rosetta_dagster.embedded.snowflake.emulator.application import Application
from rosetta_dagster.embedded.snowflake.setup import AccountSetup


def main(setup_file: str) -> None:
    """Serve the account that a file describes, on a port of the loopback."""
    setup = AccountSetup.from_json(Path(setup_file).read_text())
    # sqlglot warns about each unknown statement, and the client gets an error too.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    # DuckDB warns about how fakesnow fetches rows.
    warnings.simplefilter("ignore")
    patches.apply()
    application = Application(Account(setup), setup.control_token)
    uvicorn.run(application.asgi(), host="127.0.0.1", port=setup.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(sys.argv[1])

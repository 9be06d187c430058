"""The emulator's own process: fakesnow behind a protocol layer of ours. Nothing but `server` starts it.

It reaches into fakesnow 0.12.1, which is therefore pinned to the digit.
"""

from rosetta_dagster.embedded.snowflake.emulator.connector_modules import provide_connector_modules

# Before the first import of fakesnow, which needs them.
provide_connector_modules()

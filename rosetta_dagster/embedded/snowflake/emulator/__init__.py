"""The emulator's own process: fakesnow behind a protocol layer. Only `server` starts it.

It uses internals of fakesnow 0.12.1, which is therefore pinned to that version.
"""

from rosetta_dagster.embedded.snowflake.emulator.connector_modules import provide_connector_modules

# fakesnow needs them, so they come before its first import.
provide_connector_modules()

"""The demo's Snowflake: an emulated account, a user with a new key pair, and the comparison of its tables."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.destination.snowflake.kind import SNOWFLAKE
from rosetta_dagster.cdc.destination.snowflake.names import Names, quoted
from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.operate.sessions import SnowflakeSession
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from rosetta_dagster.testing import are_same_at_snowflake

_USER: Final = "ROSETTA"
_DATABASE: Final = "ANALYTICS"
_WAREHOUSE: Final = "LOADING"

#: Shorter than the default, for a person who watches. The emulator costs nothing.
_FLUSH_SECONDS: Final = 2.0


class DemoAccount:
    """The emulated account, in memory. Owns the emulator from `start` until `stop`."""

    def __init__(self) -> None:
        self._key_pair = KeyPair.generate()
        self._server = SnowflakeServer(
            users={_USER: [self._key_pair.public_key]}, databases=[_DATABASE], warehouses=[_WAREHOUSE]
        )

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int | None:
        """The emulator's process; None when it does not run."""
        return self._server.pid

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def config(self) -> dict[str, Any]:
        """Return the value of `destinations.config`."""
        return {
            **self._server.address,
            "user": _USER,
            "database": _DATABASE,
            "warehouse": _WAREHOUSE,
            "private_key": self._key_pair.private_key,
            "private_key_passphrase": self._key_pair.passphrase,
            "flush_seconds": _FLUSH_SECONDS,
        }

    def environment(self) -> dict[str, str]:
        """Return the key as variables, whose names docs/api.md uses."""
        return {
            "ROSETTA_SECRET_DEMO_KEY": self._key_pair.private_key,
            "ROSETTA_SECRET_DEMO_PASSPHRASE": self._key_pair.passphrase,
        }

    def describe(self) -> str:
        """Return the account's place for a person."""
        address = self._server.address
        return f"{address['protocol']}://{address['host']}:{address['port']}, account {address['account']}, {_DATABASE}"

    def equal_rows(self, source: str, tables: Sequence[TableId]) -> int | None:
        """Return the number of rows if the tables are equal to the source's, else None."""
        with (
            psycopg.connect(source, autocommit=True) as connection,
            SNOWFLAKE.session("snowflake", self.config()) as session,
        ):
            counts = [_equal_rows(connection, session, table) for table in tables]
        return None if None in counts else sum(filter(None, counts))


def _equal_rows(connection: "psycopg.Connection[Any]", session: SnowflakeSession, table: TableId) -> int | None:
    # The key of each of the shop's tables is in its first two columns.
    query = sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(*table))
    expected = connection.execute(query).fetchall()
    replica = quoted(*Names().table(table))
    try:
        found = session.execute(f"SELECT * FROM {replica} ORDER BY 1, 2")  # noqa: S608 - its name is quoted
    except DestinationRejected:
        # The table does not exist yet.
        return None
    return len(expected) if are_same_at_snowflake(expected, found) else None

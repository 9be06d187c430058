"""The demo's Snowflake: an emulated account, a user with a key pair that is made on the spot, and what its tables hold."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.destination.snowflake.names import Names, quoted
from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.operate.inspection import SnowflakeSession, snowflake_session
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from rosetta_dagster.testing import are_same_at_snowflake

_USER: Final = "ROSETTA"
_DATABASE: Final = "ANALYTICS"
_WAREHOUSE: Final = "LOADING"

#: Sooner than the default, for somebody who watches, and to whom nobody sends a bill.
_FLUSH_SECONDS: Final = 2.0


class DemoAccount:
    """Owns the emulator, from `start` until `stop`. The account is in its memory."""

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
        """As `destinations.config` has it."""
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
        """The key for those that name it by variables, as docs/api.md does."""
        return {
            "DEMO_SNOWFLAKE_KEY": self._key_pair.private_key,
            "DEMO_SNOWFLAKE_PASSPHRASE": self._key_pair.passphrase,
        }

    def describe(self) -> str:
        """Where the account is, for a person."""
        address = self._server.address
        return f"{address['protocol']}://{address['host']}:{address['port']}, account {address['account']}, {_DATABASE}"

    def equal_rows(self, source: str, tables: Sequence[TableId]) -> int | None:
        """How many rows the tables have, when they hold the same rows here and at the source; else None."""
        with (
            psycopg.connect(source, autocommit=True) as connection,
            snowflake_session("snowflake", self.config()) as session,
        ):
            counts = [_equal_rows(connection, session, table) for table in tables]
        return None if None in counts else sum(filter(None, counts))


def _equal_rows(connection: "psycopg.Connection[Any]", session: SnowflakeSession, table: TableId) -> int | None:
    # The first two columns hold the key of each of the shop's tables.
    query = sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(*table))
    expected = connection.execute(query).fetchall()
    replica = quoted(*Names().table(table))
    try:
        found = session.execute(f"SELECT * FROM {replica} ORDER BY 1, 2")  # noqa: S608 - its name is quoted
    except DestinationRejected:
        # It is not there yet.
        return None
    return len(expected) if are_same_at_snowflake(expected, found) else None

"""An emulated Snowflake account as tests use it: the server, a user with a key pair, and the real connector."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
import snowflake.connector as sf
from cryptography.hazmat.primitives import serialization
from snowflake.connector import SnowflakeConnection

from rosetta_dagster.cdc.destination.snowflake import keys
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer

USER = "ROSETTA"
WAREHOUSE = "COMPUTE_WH"


@cache
def private_key(pair: KeyPair) -> Any:
    return serialization.load_pem_private_key(pair.private_key.encode(), pair.passphrase.encode())


@contextmanager
def keys_read_once() -> Iterator[None]:
    """Keep decrypted keys while the block lasts: to verify its primes takes longer than most statements of a test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys, "_decrypted", cache(keys._decrypted))
        yield


@dataclass(frozen=True, kw_only=True)
class SnowflakeAccount:
    """A running server, and one database of it."""

    server: SnowflakeServer
    key_pair: KeyPair = field(repr=False)
    database: str = "ANALYTICS"

    @contextmanager
    def connect(self, **arguments: Any) -> Iterator[SnowflakeConnection]:
        """A connection of the real connector; arguments of its own come first."""
        arguments = {
            **self.server.address,
            "user": USER,
            "authenticator": "SNOWFLAKE_JWT",
            "private_key": private_key(self.key_pair),
            "database": self.database,
            "schema": "PUBLIC",
            "warehouse": WAREHOUSE,
            # It would warn of its own default.
            "enable_server_session_keep_alive_auto_detection": False,
            **arguments,
        }
        connection = snowflake.connector.connect(**arguments)
        try:
            yield connection
        finally:
            connection.close()

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return rows(connection, query)


def rows(connection: SnowflakeConnection, query: str) -> list[tuple[Any, ...]]:
    """What a statement answers."""
    return list(connection.cursor().execute(query).fetchall())


#: Starts an emulator, says where it is, and waits.
#: Children inherit which signals are ignored; tests that a shell runs in the background have SIGINT ignored.
OWNER = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)
from rosetta_dagster.embedded.snowflake import SnowflakeServer
server = SnowflakeServer(users={})
server.start()
print(server.pid, server._home, flush=True)
sys.stdin.read()
"""


COPY_OPTIONS = "FILE_FORMAT=(TYPE=PARQUET USE_LOGICAL_TYPE=TRUE) MATCH_BY_COLUMN_NAME=CASE_INSENSITIVE"


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def error_of(connection: sf.SnowflakeConnection, statement: str) -> sf.Error:
    with pytest.raises(sf.Error) as caught:
        connection.cursor().execute(statement)
    return caught.value


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")

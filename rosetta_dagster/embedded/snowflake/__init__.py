"""A Snowflake account to develop and test against: the unmodified connector, on the loopback, without an account.

`SnowflakeServer` starts it. Behind Snowflake's protocol runs fakesnow, which translates its SQL for DuckDB.
"""

from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind
from rosetta_dagster.embedded.snowflake.key_pair import KeyPair
from rosetta_dagster.embedded.snowflake.server import SnowflakeServer, SnowflakeServerError, Statement

__all__ = ["Fault", "FaultKind", "KeyPair", "SnowflakeServer", "SnowflakeServerError", "Statement"]

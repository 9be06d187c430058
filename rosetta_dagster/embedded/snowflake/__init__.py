"""A Snowflake account to develop and test against: the unmodified connector, on the loopback, without an account.

`SnowflakeServer` starts it. Behind Snowflake's protocol runs fakesnow, which translates its SQL for DuckDB.

What DuckDB holds otherwise than Snowflake does:

- TIMESTAMP_NTZ, TIMESTAMP_TZ and TIME have microseconds, whatever precision is declared; TIMESTAMP_TZ keeps the moment
  and not the offset, and reads as UTC. A text with a space before its offset is refused.
- NUMBER(38,s) is exact. A NUMBER of smaller precision refuses what is too large, with DuckDB's words in the message.
- VARCHAR(n) accepts longer texts, and BINARY(n) longer values (100078 does not come); nothing is limited to 16 MB.
- VARIANT, OBJECT and ARRAY are one type, JSON: they read as VARIANT, with their keys in the order in which they were
  written, and twice when written twice. COPY of a text into a VARIANT column parses it, where Snowflake keeps a string.
- GEOGRAPHY, GEOMETRY and VECTOR are not there.
- Names that differ in case only are one name.

What it does otherwise:

- A statement that fails in a transaction loses the whole transaction: COMMIT then says 009999, unless
  TRANSACTION_ABORT_ON_ERROR is set, which makes Snowflake do the same.
- A transaction sees the moment of its first statement, not of each; a row that another one changed since is 000625. It
  writes one database.
- PRIMARY KEY, UNIQUE and FOREIGN KEY are accepted and forgotten. Roles, grants and warehouses are names: who may log in
  may do everything. A warehouse is needed to read or change rows.
- A statement that takes long is answered when it is done, without the answers in between that Snowflake gives.
  STATEMENT_TIMEOUT_IN_SECONDS ends a stall only.
- A restart ends all sessions. Streams, tasks, pipes, GET, unloading, SWAP, EXECUTE IMMEDIATE and several statements in one
  are not there; what is not there is 009999, 001003 or 002043.
"""

from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind
from rosetta_dagster.embedded.snowflake.key_pair import KeyPair
from rosetta_dagster.embedded.snowflake.server import SnowflakeServer, SnowflakeServerError, Statement

__all__ = ["Fault", "FaultKind", "KeyPair", "SnowflakeServer", "SnowflakeServerError", "Statement"]

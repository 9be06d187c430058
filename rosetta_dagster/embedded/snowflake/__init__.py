"""An emulated Snowflake account for development and tests: the unmodified connector works with it, on the loopback.

`SnowflakeServer` starts it. Behind Snowflake's protocol runs fakesnow, which translates its SQL for DuckDB.

Values differ from Snowflake's in these ways:

- TIMESTAMP_NTZ, TIMESTAMP_TZ and TIME always have microseconds. TIMESTAMP_TZ keeps the moment and not the offset, and reads
  as UTC. A text with a space before its offset is refused.
- NUMBER(38,s) is exact. A NUMBER of smaller precision refuses a larger number with DuckDB's message.
- VARCHAR(n) and BINARY(n) accept longer values: 100078 is never raised, and the limit of 16 MB does not exist.
- VARIANT, OBJECT and ARRAY are all JSON and read as VARIANT. Keys keep their order, and duplicate keys stay. COPY of a text
  into a VARIANT column parses it, where Snowflake keeps a string.
- GEOGRAPHY, GEOMETRY and VECTOR do not exist.
- Names that differ only in case are the same name.

Its behaviour differs in these ways:

- A statement that fails in a transaction aborts it: COMMIT then raises 009999, unless TRANSACTION_ABORT_ON_ERROR is set,
  with which Snowflake does the same.
- A transaction has one snapshot, taken at its first statement, where Snowflake takes one for each statement. A row that
  another transaction has changed since raises 000625. A transaction writes to one database.
- PRIMARY KEY, UNIQUE and FOREIGN KEY are accepted and ignored. Roles, grants and warehouses are only names: every user may
  do everything, except CREATE SCHEMA where it was revoked. Reading and changing rows requires a warehouse.
- A long statement is answered at its end, without Snowflake's answers in between. STATEMENT_TIMEOUT_IN_SECONDS ends only a
  stall.
- ALTER ACCOUNT sets parameters. QUOTED_IDENTIFIERS_IGNORE_CASE and DEFAULT_DDL_COLLATION have an effect; of collations only
  whether they ignore case. EMULATOR_STALE_READS and EMULATOR_STALE_UPDATES play what Snowflake's documentation leaves open.
- A restart ends all sessions. Streams, tasks, pipes, GET, unloading, SWAP, EXECUTE IMMEDIATE and several statements in one
  request do not exist; they raise 009999, 001003 or 002043.
"""

from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind
from rosetta_dagster.embedded.snowflake.key_pair import KeyPair
from rosetta_dagster.embedded.snowflake.server import SnowflakeServer, SnowflakeServerError, Statement

__all__ = ["Fault", "FaultKind", "KeyPair", "SnowflakeServer", "SnowflakeServerError", "Statement"]

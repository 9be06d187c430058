"""What a finding is: one thing that is not as it should be, where, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId


class Check(StrEnum):
    """What was examined."""

    COPY = "copy"
    DEBEZIUM = "debezium"
    DESTINATIONS = "destinations"
    ENCRYPTION = "encryption"
    INHERITANCE = "inheritance"
    MASK = "mask"
    PRIVILEGES = "privileges"
    PUBLICATION = "publication"
    REPLICA_IDENTITY = "replica_identity"
    REPLICATION = "replication"
    SELECTION = "selection"
    SLOTS = "slots"
    STANDBY = "standby"
    TABLES = "tables"
    WAL_LEVEL = "wal_level"
    WALSENDERS = "walsenders"


class Severity(StrEnum):
    """Whether the pipeline can run in spite of a finding."""

    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    check: Check
    severity: Severity
    message: str
    remedy: str
    #: The table that alone is concerned; None: the whole pipeline is.
    table: TableId | None = None

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"

    @property
    def is_error(self) -> bool:
        """Whether the pipeline, or the table, cannot be replicated like this."""
        return self.severity is Severity.ERROR


def problem(check: Check, message: str, remedy: str, table: TableId | None = None) -> Finding:
    """Return a finding in spite of which the table, or the pipeline, cannot be replicated."""
    return Finding(check=check, severity=Severity.ERROR, message=message, remedy=remedy, table=table)


def warning(check: Check, message: str, remedy: str, table: TableId | None = None) -> Finding:
    """Return a finding that an operator should know of."""
    return Finding(check=check, severity=Severity.WARNING, message=message, remedy=remedy, table=table)


def quoted(*names: str) -> str:
    """Return a name as SQL writes it, so that a remedy can be run as it stands."""
    return sql.Identifier(*names).as_string(None)

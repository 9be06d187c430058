"""Every error that Rosetta raises, and for each whether time or a person has to mend it.

    RosettaError
    ├── TransientError               time mends it: the run is restarted with backoff
    │   ├── SourceUnavailable        the source cannot be reached
    │   ├── DestinationUnavailable   a destination cannot be reached
    │   ├── StoreUnavailable         the configuration database cannot be reached
    │   ├── TableAltered             a table was altered while its copy began
    │   ├── StreamEnded              the capture engine ended by itself
    │   ├── StreamStalled            the capture engine is silent although the source is not
    │   ├── WorkerStuck              a run did not end in time, so its process has to
    │   ├── SpoolUnavailable         the directory for temporary files is full or cannot be written
    │   ├── LeaseHeld                another run holds this pipeline
    │   ├── WatermarkMoved           another run has written this pipeline's watermark
    │   ├── NotCaughtUp              tables have not reached the source's position in time
    │   ├── AlertFailed              a receiver of alerts does not accept a message
    │   └── Unexpected               Rosetta itself failed
    └── TerminalError                a person has to mend it: tried again every 10 minutes, or when a row is changed
        ├── ConfigurationError       a setting or a row is wrong
        ├── SecretUnreadable         a secret cannot be decrypted
        ├── MigrationRefused         the recorded migrations and the files disagree
        ├── PipelineNotFound         no such pipeline
        ├── NotReplicated            tables that somebody waits for do not change: paused, or set aside
        ├── PreflightFailed          the source or a destination is not ready
        ├── SlotInvalid              the replication slot does not continue the watermark
        ├── TableNotOurs             a destination table holds rows that Rosetta did not write
        ├── TableUnreadable          the role may not read a table at the source
        ├── TableReplaced            another table at the source has the name of one of the pipeline's
        ├── ChangeUndecodable        a change does not fit the table that it belongs to
        │   └── EngineUnsuitable     Debezium cannot read past a change, and PGOUTPUT can: the run goes on with that
        ├── SchemaChangeRefused      a schema change that a destination cannot follow, or is not to
        │   └── ColumnValuesUnknown  a column's values in existing rows are not in the stream
        └── DestinationRejected      a destination refuses a statement or a value

A message says what is wrong and where; the remedy says what to do. Neither may hold a secret or a value of a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final, NamedTuple

from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId

_RESYNC: Final = sql.SQL(
    "UPDATE pipeline_tables SET resync = true WHERE table_schema = {} AND table_name = {} "
    "AND pipeline_id = (SELECT id FROM pipelines WHERE name = {});"
)


def resync_remedy(pipeline: str, table: TableId) -> str:
    """Return the remedy for a table whose copy cannot be continued, with the statement for the configuration database."""
    return f"To copy table {table} again, run: {_RESYNC.format(*map(sql.Literal, (*table, pipeline))).as_string(None)}"


class BrokenTable(NamedTuple):
    """The table that an error is about. The pipeline's other tables are sound."""

    table: TableId
    #: The destination where it is broken; None: at every one.
    destination: str | None = None


class RosettaError(Exception):
    """What went wrong, and what an operator does about it."""

    #: Whether time alone mends it; decided by the class, in no other place.
    transient: ClassVar[bool] = False

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        #: Set when the rest of the pipeline is sound.
        self.broken: BrokenTable | None = None

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class TransientError(RosettaError):
    """Time mends it: the run is restarted with backoff, for as long as it lasts."""

    transient = True


class TerminalError(RosettaError):
    """A person has to mend it. The run is tried again after 10 minutes, or when a row of the pipeline is changed."""


class SourceUnavailable(TransientError):
    """The source cannot be reached."""


class DestinationUnavailable(TransientError):
    """A destination cannot be reached."""


class StoreUnavailable(TransientError):
    """The configuration database cannot be reached."""


class TableAltered(TransientError):
    """A table was altered between reading its columns and copying its first rows."""


class StreamEnded(TransientError):
    """The capture engine ended by itself."""


class StreamStalled(TransientError):
    """The capture engine is silent although the source is not."""


class WorkerStuck(TransientError):
    """A run did not end in time. Its process has to end, so that its walsender does."""


class SpoolUnavailable(TransientError):
    """The directory for temporary files is full or cannot be written."""


class LeaseHeld(TransientError):
    """Another run holds this pipeline."""


class WatermarkMoved(TransientError):
    """Another run has written this pipeline's watermark since this one read it."""


class NotCaughtUp(TransientError):
    """The destinations have not reached the source's position in time."""


class AlertFailed(TransientError):
    """A receiver of alerts does not accept a message. It is sent again."""


class Unexpected(TransientError):
    """Rosetta itself failed. The run is restarted, since the circumstances may be others then."""


class ConfigurationError(TerminalError):
    """A setting or a row of the configuration database is wrong."""


class SecretUnreadable(TerminalError):
    """A secret of the configuration database cannot be decrypted."""


class MigrationRefused(TerminalError):
    """The recorded migrations and the files disagree."""


class PipelineNotFound(TerminalError):
    """No pipeline, source or destination has that name."""


class NotReplicated(TerminalError):
    """Tables that somebody waits for do not change: their pipeline is paused, or they are set aside."""


class PreflightFailed(TerminalError):
    """The source or a destination is not ready; the message lists every finding."""


class SlotInvalid(TerminalError):
    """The replication slot is missing, is lost, or does not continue the watermark."""


class TableNotOurs(TerminalError):
    """A destination table holds rows that Rosetta did not write."""


class TableUnreadable(TerminalError):
    """The role may not read a table at the source, or a partition of it."""


class TableReplaced(TerminalError):
    """A table was dropped or renamed at the source, and another table has its name."""


class ChangeUndecodable(TerminalError):
    """A change does not fit the table that it belongs to."""


class EngineUnsuitable(ChangeUndecodable):
    """Debezium cannot read past a change, and PGOUTPUT can. The run goes on with that engine."""


class SchemaChangeRefused(TerminalError):
    """A schema change that a destination cannot follow, or is not to by the pipeline's policy."""


class ColumnValuesUnknown(SchemaChangeRefused):
    """A column's values in existing rows are not in the stream. Only a copy of the table has them."""


class DestinationRejected(TerminalError):
    """A destination refuses a statement or a value."""


@contextmanager
def breaking(table: TableId, destination: str | None = None) -> Iterator[None]:
    """Attribute terminal errors raised in the block to this table, except `ConfigurationError`."""
    try:
        yield
    except TerminalError as error:
        if not isinstance(error, ConfigurationError):
            error.broken = error.broken or BrokenTable(table, destination)
        raise

"""Uploads tables of values to Snowflake's internal stage as Parquet files, and loads them into a table."""

import uuid
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pyarrow.parquet

from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.errors import DestinationRejected, RosettaError

#: Bytes of a file before compression, about: Snowflake loads several files of this size in parallel.
FILE_SIZE = 200 * 1024 * 1024

_COMPRESSION_LEVEL = 3


class Upload:
    """The files of one load, in a path of the stage that is used once. Used by one thread.

    Owns a directory with at most one file, from the first table until `close`; the file holds values of rows.
    """

    def __init__(self, session: Session, token: str) -> None:
        self.path = f"{sql.SCHEMA}.STAGE/{token}/{uuid.uuid4().hex}/"
        self.row_count = 0
        self._session = session
        self._directory = TemporaryDirectory(prefix="rosetta-")
        self._writer: Any = None
        self._size = 0
        self._count = 0
        self._was_loaded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._directory.cleanup()

    def add(self, table: Any) -> None:
        """Write an Arrow table. Upload the file once it is large enough."""
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(
                self._file, table.schema, compression="zstd", compression_level=_COMPRESSION_LEVEL
            )
        self._writer.write_table(table)
        self.row_count += table.num_rows
        self._size += table.nbytes
        if self._size >= FILE_SIZE:
            self.finish()

    def finish(self) -> None:
        """Upload the rows written so far."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer, self._size = None, 0
        self._session.put(self._file, self.path)
        self._file.unlink()
        self._count += 1

    def copy_into(self, table: str, place: str, *, in_transaction: bool = False) -> None:
        """Load the files into a table. Raise `DestinationRejected` when Snowflake loads another number of rows.

        In a transaction, which may be repeated, the files stay until `remove`.
        """
        statement = sql.copy_into(table, self.path, purges=not in_transaction, forces=self._was_loaded)
        rows = self._session.execute(statement, place=place)
        # A load that was rolled back may still count as one, and COPY would pass the files over.
        self._was_loaded = in_transaction
        # One row for each file: its name, its status, rows parsed, rows loaded.
        loaded = sum(int(row[3]) for row in rows if len(row) > 3)
        if loaded != self.row_count:
            raise DestinationRejected(
                f"Of {self.row_count} rows of {place}, Snowflake loaded {loaded}.",
                "Restart the pipeline. If it happens again, look at the stage ROSETTA.STAGE and at COPY_HISTORY.",
            )

    def remove(self) -> None:
        """Remove the files, once their rows are committed. If that fails, the next run removes them."""
        with suppress(RosettaError):
            self._session.execute(sql.remove(self.path))

    @property
    def _file(self) -> Path:
        return Path(self._directory.name) / f"{self._count:05}.parquet"

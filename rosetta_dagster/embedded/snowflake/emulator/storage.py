"""The account's storage: a DuckDB file for each database in a directory, or memory."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from fakesnow import info_schema, macros
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.instance import GLOBAL_DATABASE_NAME, FakeSnow
from fakesnow.transforms import show, stage

_SUFFIX = ".db"

#: The file for what fakesnow keeps outside of a database.
_FORGET_DATABASE = (
    "DELETE FROM _fs_global._fs_information_schema._fs_stages WHERE database_name = ?",
    "DELETE FROM _fs_global._fs_information_schema._fs_file_formats WHERE database_name = ?",
    "DELETE FROM _fs_global._fs_information_schema._fs_tables_ext WHERE ext_table_catalog = ?",
    "DELETE FROM _fs_global._fs_information_schema._fs_columns_ext WHERE ext_table_catalog = ?",
)


class Storage:
    """Fakesnow's engine over a directory. Owns its DuckDB instance until `close`."""

    def __init__(self, directory: str | None, databases: Iterable[str]) -> None:
        """Open the directory's databases, and create the missing ones, each with a schema PUBLIC."""
        home = Path(directory) if directory else None
        path = home / "databases" if home else None
        self._fakesnow = FakeSnow(db_path=path, create_database_on_connect=False, create_schema_on_connect=False)
        if home is not None and path is not None:
            path.mkdir(parents=True, exist_ok=True)
            keep_catalog(self._fakesnow, home / "catalog")
            keep_stages(home / "stages")
            self._attach(path)
        # The client, the source and the worker share this machine's memory.
        self._fakesnow.duck_conn.execute("SET GLOBAL memory_limit = '2GB'")
        # Checkpoints are rare; changes since the last one are in the log.
        self._fakesnow.duck_conn.execute("SET GLOBAL checkpoint_threshold = '256MB'")
        # Compression took half the time of a large load, and the files live as long as a demo.
        self._fakesnow.duck_conn.execute("SET GLOBAL force_compression = 'uncompressed'")
        for name in databases:
            if name.upper() not in self.databases():
                self.create_database(name.upper())

    def connect(self, database: str | None, schema: str | None) -> FakeSnowflakeConnection:
        """Open a connection for one session. Database and schema become current if they exist."""
        return self._fakesnow.connect(database, schema)

    def databases(self) -> set[str]:
        rows = self._fakesnow.duck_conn.cursor().execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        return {str(name) for (name,) in rows.fetchall()} - {GLOBAL_DATABASE_NAME, "memory"}

    def create_database(self, name: str) -> None:
        """Create a database with a schema PUBLIC.

        fakesnow 0.12.1 does not create the schema, and fails for a path with a quote.
        """
        path = self._fakesnow.db_path
        file = "':memory:'" if path is None else f"'{_literal(Path(path) / (name + _SUFFIX))}'"
        connection = self._fakesnow.duck_conn.cursor()
        connection.execute(f'ATTACH {file} AS "{name}"')
        connection.execute(info_schema.per_db_creation_sql(name))
        connection.execute(macros.creation_sql(name))
        connection.execute(f'CREATE SCHEMA "{name}".PUBLIC')

    def drop_database(self, name: str) -> None:
        """Delete a database with its stages. fakesnow 0.12.1 passes DROP DATABASE to DuckDB, which does not have it."""
        connection = self._fakesnow.duck_conn.cursor()
        connection.execute(f'DETACH "{name}"')
        for statement in _FORGET_DATABASE:
            connection.execute(statement, [name])
        shutil.rmtree(Path(stage.LOCAL_BUCKET_PATH) / name, ignore_errors=True)
        if self._fakesnow.db_path is not None:
            for file in Path(self._fakesnow.db_path).glob(f"{name}{_SUFFIX}*"):
                file.unlink()

    def close(self) -> None:
        """Write all data to the files."""
        self._fakesnow.duck_conn.close()

    def _attach(self, path: Path) -> None:
        for file in sorted(path.glob(f"*{_SUFFIX}")):
            self._fakesnow.duck_conn.execute(f"ATTACH DATABASE '{_literal(file)}' AS \"{file.stem}\"")


def keep_catalog(fakesnow: FakeSnow, file: Path) -> None:
    """Keep names of stages, comments and lengths of texts in a file. fakesnow 0.12.1 has them in memory only."""
    connection = fakesnow.duck_conn
    connection.execute(f"DETACH {GLOBAL_DATABASE_NAME}")
    connection.execute(f"ATTACH '{_literal(file)}' AS {GLOBAL_DATABASE_NAME}")
    connection.execute(info_schema.fs_global_creation_sql())
    connection.execute(show.fs_global_creation_sql())


def keep_stages(directory: Path) -> None:
    """Keep staged files beside the databases. fakesnow 0.12.1 has them in a temporary directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stage.LOCAL_BUCKET_PATH, ignore_errors=True)
    stage.LOCAL_BUCKET_PATH = str(directory)


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")

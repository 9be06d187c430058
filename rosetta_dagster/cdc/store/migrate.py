"""Applies the files of `migrations/` to the configuration database: in order, each once, and never after a change."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from rosetta_dagster.cdc.errors import MigrationRefused

#: Two processes that start at once must not both migrate. The number is the lock's name within the database.
_LOCK = 7_016_996_765_293_437_281

#: Files of sample data are applied only when asked for.
_SEED_SUFFIX = "_seed_data.sql"

_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS rosetta_migrations (
    name        text PRIMARY KEY,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_seed(self) -> bool:
        return self.name.endswith(_SEED_SUFFIX)


def read_migrations(directory: Path | None = None) -> list[Migration]:
    """Return the files in order: those of the installed package, or of the checkout that holds the package."""
    directory = directory or _directory()
    return [Migration(name=path.name, text=path.read_text()) for path in sorted(directory.glob("*.sql"))]


def migrate(
    connection: "psycopg.Connection[Any]", migrations: Sequence[Migration], *, seed: bool = False
) -> tuple[str, ...]:
    """Apply the missing migrations. Return their names. `MigrationRefused` when an applied file has changed."""
    wanted = [migration for migration in migrations if seed or not migration.is_seed]
    if _applied(connection).keys() >= {migration.name for migration in wanted}:
        _verify(wanted, _applied(connection))
        return ()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(_RECORD_TABLE)
        applied = _applied(connection)
        _verify(wanted, applied)
        missing = [migration for migration in wanted if migration.name not in applied]
        for migration in missing:
            _apply(connection, migration)
    return tuple(migration.name for migration in missing)


def _applied(connection: "psycopg.Connection[Any]") -> dict[str, str]:
    if connection.execute("SELECT to_regclass('rosetta_migrations')").fetchone() == (None,):
        return {}
    return dict(connection.execute("SELECT name, checksum FROM rosetta_migrations").fetchall())


def _verify(migrations: Sequence[Migration], applied: dict[str, str]) -> None:
    changed = [m.name for m in migrations if applied.get(m.name, m.checksum) != m.checksum]
    unknown = sorted(applied.keys() - {m.name for m in migrations} - {n for n in applied if n.endswith(_SEED_SUFFIX)})
    if unknown:
        raise MigrationRefused(
            f"The configuration database has the migration {', '.join(unknown)}, which this version does not know.",
            "Use the version of Rosetta that applied it, or a newer one.",
        )
    if changed:
        raise MigrationRefused(
            f"Migration {', '.join(changed)} was changed after it had been applied.",
            "Restore the file as it was, and put the change into a new migration.",
        )


def _apply(connection: "psycopg.Connection[Any]", migration: Migration) -> None:
    connection.execute(migration.text)
    connection.execute(
        "INSERT INTO rosetta_migrations (name, checksum) VALUES (%s, %s)", [migration.name, migration.checksum]
    )


def _directory() -> Path:
    package = Path(__file__).parents[2]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"

"""Writes the statements that give each role of a pipeline what it needs, and nothing more. Nothing is run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, PostgresConnection, TableConfig
from rosetta_dagster.cdc.table_id import TableId


class Provider(StrEnum):
    """Who runs the source's server: the right to replicate is given differently by each."""

    OWN = "own"
    RDS = "rds"
    AURORA = "aurora"
    CLOUDSQL = "cloudsql"
    AZURE = "azure"
    SUPABASE = "supabase"
    NEON = "neon"


#: The ends of hosts that show a provider. Cloud SQL has addresses only.
_HOSTS: Final = {
    ".rds.amazonaws.com": Provider.RDS,
    ".postgres.database.azure.com": Provider.AZURE,
    ".supabase.co": Provider.SUPABASE,
    ".neon.tech": Provider.NEON,
}

#: What has to be set at the server; each takes a restart.
_SETTINGS: Final = {
    Provider.OWN: "Set wal_level = logical in postgresql.conf, and restart the server.",
    Provider.RDS: "Set rds.logical_replication = 1 in the DB parameter group, and reboot the instance.",
    Provider.AURORA: "Set rds.logical_replication = 1 in the DB cluster parameter group, and reboot the writer.",
    Provider.CLOUDSQL: "Set the flag cloudsql.logical_decoding = on. The instance restarts.",
    Provider.AZURE: "Set the server parameter wal_level = LOGICAL, and restart the server.",
    Provider.SUPABASE: "Logical decoding is on. Connect to the database itself, not to the pooler.",
    Provider.NEON: "Enable logical replication in the project's settings. Connect to the host without -pooler.",
}

_REPLICATION: Final = {
    Provider.RDS: "GRANT rds_replication TO {}",
    Provider.AURORA: "GRANT rds_replication TO {}",
    Provider.CLOUDSQL: "ALTER USER {} WITH REPLICATION",
}

#: Rosetta's own schema at a destination.
_STATE: Final = "rosetta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The statements for one place."""

    #: The place, and as whom they are to be run.
    place: str
    notes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it as a script: notes are comments."""
        return [*(f"-- {line}" for line in (self.place, *self.notes)), *(f"{each};" for each in self.statements)]


def provider_of(host: str) -> Provider:
    """Return who runs a server, by its host.

    >>> [str(provider_of(host)) for host in ("db.abc.eu-west-1.rds.amazonaws.com", "db.example.com")]
    ['rds', 'own']
    >>> str(provider_of("db.cluster-abc.eu-west-1.rds.amazonaws.com"))
    'aurora'
    """
    found = next((provider for end, provider in _HOSTS.items() if host.lower().endswith(end)), Provider.OWN)
    return Provider.AURORA if found is Provider.RDS and ".cluster-" in host.lower() else found


def grants(config: PipelineConfig, provider: Provider | None = None) -> list[Grants]:
    """Return what the roles of a pipeline need at its source and at each destination."""
    source = _source(config, provider or provider_of(config.source.connection.host))
    return [source, *(_destination(row, config) for row in config.destinations)]


def configuration_grants(user: str, database: str) -> Grants:
    """Return what the role of the configuration database needs: Rosetta migrates it."""
    return Grants(
        place=f"configuration database {database}, as its owner",
        statements=(
            _text("GRANT CONNECT ON DATABASE {} TO {}", database, user),
            _text("GRANT USAGE, CREATE ON SCHEMA public TO {}", user),
        ),
    )


def _source(config: PipelineConfig, provider: Provider) -> Grants:
    source, tables = config.source.connection, [table.id for table in config.tables]
    statements = [
        _replication(provider, source.username),
        _text("GRANT CONNECT ON DATABASE {} TO {}", source.database, source.username),
        *(_text("GRANT USAGE ON SCHEMA {} TO {}", name, source.username) for name in _namespaces(tables)),
    ]
    if tables:
        names = ", ".join(_text("{}", table) for table in tables)
        statements.append(f"GRANT SELECT ON {names} TO {_text('{}', source.username)}")
        only = ", ".join(_member(table) for table in config.tables)
        statements.append(
            f"CREATE PUBLICATION {_text('{}', config.publication_name)} FOR TABLE {only}"
            " WITH (publish_via_partition_root = true)"
        )
    return Grants(
        place=f"source {config.source.name}, database {source.database}, as an administrator ({provider})",
        notes=(
            _SETTINGS[provider],
            _role_note(source),
            "Partitions of a table need the same SELECT. The publication takes the ownership of its tables.",
            "Give a table without a primary key REPLICA IDENTITY FULL first, or the source refuses its updates.",
            *_excluded(config.tables),
        ),
        statements=tuple(filter(None, statements)),
    )


def _member(table: TableConfig) -> str:
    """Return the table as CREATE PUBLICATION takes it, with the columns and rows that are replicated."""
    columns = f" ({', '.join(_text('{}', column) for column in table.columns)})" if table.columns else ""
    rows = f" WHERE ({table.where})" if table.where else ""
    return f"{_text('ONLY {}', table.id)}{columns}{rows}"


def _excluded(tables: Iterable[TableConfig]) -> list[str]:
    return [f"Name the columns of {t.id} in the publication, without {', '.join(t.exclude)}." for t in tables if t.exclude]


def _replication(provider: Provider, role: str) -> str:
    if provider is Provider.NEON:
        # Roles that are made in its console may replicate.
        return ""
    return _text(_REPLICATION.get(provider, "ALTER ROLE {} REPLICATION"), role)


def _role_note(connection: PostgresConnection) -> str:
    role = _text("{}", connection.username)
    return f"If the role is missing: CREATE ROLE {role} LOGIN; and set its password with psql's \\password {role}"


def _destination(row: DestinationConfig, config: PipelineConfig) -> Grants:
    match row.type:
        case "POSTGRES":
            return _postgres(row, config)
        case "SNOWFLAKE":
            return _snowflake(row)
        case _:
            return Grants(place=f"destination {row.name}", notes=(f"What {row.type} needs is not known here.",))


def _postgres(row: DestinationConfig, config: PipelineConfig) -> Grants:
    user, database = str(row.config.get("username", "")), str(row.config.get("database", ""))
    targets = [table.target(row.config.get("schema")) for table in config.tables]
    statements = [_text("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database, user)]
    for name in [_STATE, *_namespaces(targets)]:
        statements += [
            _text("CREATE SCHEMA IF NOT EXISTS {}", name),
            _text("GRANT USAGE, CREATE ON SCHEMA {} TO {}", name, user),
        ]
    return Grants(
        place=f"destination {row.name}, database {database}, as its owner",
        notes=("Tables that Rosetta creates belong to its role. One that exists already has to belong to it.",),
        statements=tuple(statements),
    )


def _snowflake(row: DestinationConfig) -> Grants:
    database, role = _snowflake_name(row.config.get("database")), _snowflake_name(row.config.get("role") or "ROSETTA")
    user, warehouse = _snowflake_name(row.config.get("user")), row.config.get("warehouse")
    statements = [
        f"CREATE ROLE IF NOT EXISTS {role}",
        f"GRANT ROLE {role} TO USER {user}",
        f"GRANT USAGE, CREATE SCHEMA ON DATABASE {database} TO ROLE {role}",
    ]
    if warehouse:
        statements.append(f"GRANT USAGE ON WAREHOUSE {_snowflake_name(warehouse)} TO ROLE {role}")
    return Grants(
        place=f"destination {row.name} at Snowflake, as SECURITYADMIN or the owner of the database",
        notes=(
            "In a schema that exists already the role needs USAGE and CREATE TABLE as well.",
            "rosetta keys generate makes the user's key, and prints the statement that registers it.",
        ),
        statements=tuple(statements),
    )


def _snowflake_name(name: Any) -> str:
    text = str(name or "")
    return text if text.isidentifier() and text.isascii() else '"' + text.replace('"', '""') + '"'


def _namespaces(tables: Iterable[TableId]) -> Sequence[str]:
    return sorted({table.namespace for table in tables})


def _text(statement: str, *names: str | TableId) -> str:
    """Return a statement with names, quoted where they have to be."""
    return statement.format(*(_quoted(name) for name in names))


def _quoted(name: str | TableId) -> str:
    parts = name if isinstance(name, TableId) else (name,)
    return sql.Identifier(*parts).as_string(None)

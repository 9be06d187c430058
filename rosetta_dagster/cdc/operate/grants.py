"""Writes the statements that give each role of a pipeline what it needs, and nothing more. Nothing is run."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, PostgresConnection, TableConfig
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.grants import Grants, namespaces, with_names


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
    return [source, *(kind_of(row.type, row.name).grants(row, config.tables) for row in config.destinations)]


def configuration_grants(user: str, database: str) -> Grants:
    """Return what the role of the configuration database needs: Rosetta migrates it."""
    return Grants(
        place=f"configuration database {database}, as its owner",
        statements=(
            with_names("GRANT CONNECT ON DATABASE {} TO {}", database, user),
            with_names("GRANT USAGE, CREATE ON SCHEMA public TO {}", user),
        ),
    )


def _source(config: PipelineConfig, provider: Provider) -> Grants:
    source, tables = config.source.connection, [table.id for table in config.tables]
    statements = [
        _replication(provider, source.username),
        with_names("GRANT CONNECT ON DATABASE {} TO {}", source.database, source.username),
        *(with_names("GRANT USAGE ON SCHEMA {} TO {}", name, source.username) for name in namespaces(tables)),
    ]
    if tables:
        names = ", ".join(with_names("{}", table) for table in tables)
        statements.append(f"GRANT SELECT ON {names} TO {with_names('{}', source.username)}")
        only = ", ".join(_member(table) for table in config.tables)
        statements.append(
            f"CREATE PUBLICATION {with_names('{}', config.publication_name)} FOR TABLE {only}"
            " WITH (publish_via_partition_root = true)"
        )
    return Grants(
        place=f"source {config.source.name}, database {source.database}, as an administrator ({provider})",
        notes=(
            _SETTINGS[provider],
            _role_note(source),
            "Partitions of a table need the same SELECT. The publication takes the ownership of its tables.",
            *_excluded(config.tables),
        ),
        statements=tuple(filter(None, statements)),
    )


def _member(table: TableConfig) -> str:
    """Return the table as CREATE PUBLICATION takes it, with the columns and rows that are replicated."""
    columns = f" ({', '.join(with_names('{}', column) for column in table.columns)})" if table.columns else ""
    rows = f" WHERE ({table.where})" if table.where else ""
    return f"{with_names('ONLY {}', table.id)}{columns}{rows}"


def _excluded(tables: Iterable[TableConfig]) -> list[str]:
    return [f"Name the columns of {t.id} in the publication, without {', '.join(t.exclude)}." for t in tables if t.exclude]


def _replication(provider: Provider, role: str) -> str:
    if provider is Provider.NEON:
        # Roles that are made in its console may replicate.
        return ""
    return with_names(_REPLICATION.get(provider, "ALTER ROLE {} REPLICATION"), role)


def _role_note(connection: PostgresConnection) -> str:
    role = with_names("{}", connection.username)
    return f"If the role is missing: CREATE ROLE {role} LOGIN; and set its password with psql's \\password {role}"

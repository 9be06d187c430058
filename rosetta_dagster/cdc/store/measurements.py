"""Reads what can be measured of every pipeline, in one snapshot of the configuration database. No secret is read."""

from dataclasses import dataclass

from psycopg.rows import class_row

from rosetta_dagster.cdc.store.session import StoreSession

_PIPELINES = """
SELECT pipelines.name::text AS pipeline, sources.name::text AS source, pipelines.engine::text AS engine,
       pipelines.status::text AS wanted_status, metadata.status::text AS run_status,
       metadata.health_status::text AS health,
       extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS heartbeat_age,
       extract(epoch FROM clock_timestamp() - last_success_time)::float8 AS success_age,
       lag_seconds, lag_bytes, wal_size AS retained_bytes, safe_wal_size AS safe_bytes, wal_growth AS growth,
       extract(epoch FROM clock_timestamp() - wal_size_at)::float8 AS slot_reading_age,
       batches_applied AS batch_count, batch_wait_seconds AS wait_seconds, batch_apply_seconds AS apply_seconds,
       failed_runs, failure_count AS failed_attempts
FROM pipelines
JOIN sources ON sources.id = pipelines.source_id
JOIN pipeline_metadata AS metadata ON metadata.pipeline_id = pipelines.id
ORDER BY pipelines.name
"""

_TABLES = """
SELECT pipelines.name::text AS pipeline, table_schema::text AS namespace, table_name::text AS name,
       CASE WHEN paused THEN 'PAUSED' ELSE state::text END AS state,
       rows_copied AS copied, rows_inserted AS inserted, rows_updated AS updated, rows_deleted AS deleted,
       times_truncated AS truncated
FROM pipeline_tables JOIN pipelines ON pipelines.id = pipeline_id
ORDER BY pipelines.name, table_schema, table_name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineMeasurement:
    """The figures of a pipeline. None: not known, or not yet."""

    pipeline: str
    source: str
    engine: str
    wanted_status: str
    run_status: str
    health: str
    heartbeat_age: float | None
    #: Seconds since the destinations last held everything that the source had committed.
    success_age: float | None
    lag_seconds: float | None
    lag_bytes: int | None
    retained_bytes: int | None
    #: Bytes of WAL until the slot may be lost; None: the source sets no limit.
    safe_bytes: int | None
    #: Bytes per second by which the retained WAL grows.
    growth: float | None
    slot_reading_age: float | None
    batch_count: int
    wait_seconds: float
    apply_seconds: float
    failed_runs: int
    #: Runs that failed one after the other, until now.
    failed_attempts: int

    @property
    def seconds_until_lost(self) -> float | None:
        """Seconds until the source removes WAL that the slot needs, at its current growth; None: it does not."""
        if self.safe_bytes is None or self.growth is None or self.growth <= 0:
            return None
        return max(0.0, self.safe_bytes / self.growth)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMeasurement:
    """The figures of a table of a pipeline, since the table was added."""

    pipeline: str
    namespace: str
    name: str
    state: str
    copied: int
    inserted: int
    updated: int
    deleted: int
    truncated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All pipelines and tables at one moment."""

    pipelines: tuple[PipelineMeasurement, ...]
    tables: tuple[TableMeasurement, ...]


def read_measurements(store: StoreSession) -> Measurements:
    """Return the figures of every pipeline and table."""
    with store.connected() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        pipelines = connection.cursor(row_factory=class_row(PipelineMeasurement)).execute(_PIPELINES).fetchall()
        tables = connection.cursor(row_factory=class_row(TableMeasurement)).execute(_TABLES).fetchall()
    return Measurements(pipelines=tuple(pipelines), tables=tuple(tables))

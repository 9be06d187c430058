"""From where on the checks of a pipeline warn and fail."""

from pydantic import BaseModel, ConfigDict, Field

_MIB = 1024 * 1024


class Thresholds(BaseModel):
    """What `pipelines.thresholds` holds. Each has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: WAL that the slot retains from which on the pipeline is late, and from which on the source's disk is in danger.
    wal_warning_bytes: int = Field(default=128 * _MIB, ge=0)
    wal_error_bytes: int = Field(default=1024 * _MIB, ge=0)
    #: Time left until the slot is lost, at the pace of the last minutes.
    slot_warning_seconds: float = Field(default=21_600.0, ge=0)
    slot_error_seconds: float = Field(default=3600.0, ge=0)
    #: How old the last source commit may be that the destination holds, while there are later ones.
    freshness_warning_seconds: float = Field(default=300.0, ge=0)
    freshness_error_seconds: float = Field(default=1800.0, ge=0)
    #: The part of a table's rows by which source and destination may differ while changes are on their way.
    row_count_tolerance: float = Field(default=0.01, ge=0, le=1)

"""Declares when the checks of a pipeline warn and fail."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from rosetta_dagster.cdc.config.wording import UNKNOWN, unknown

_MIB = 1024 * 1024

_WAL = "Bytes of WAL that the slot retains from which on the check"
_SLOT = "Seconds until the slot is lost, at the current pace, from which on the check"
_FRESHNESS = "Seconds that the destinations may be behind the source before the check"


class Thresholds(BaseModel):
    """The value of `pipelines.thresholds`. Each threshold has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest(cls, values: Any) -> Any:
        """Refuse an unknown threshold by the nearest known one, also where code makes `Thresholds` by itself."""
        wrong = [name for name in values if name not in cls.model_fields] if isinstance(values, dict) else []
        if wrong:
            text = "; ".join(unknown(str(name), list(cls.model_fields)) for name in wrong)
            raise PydanticCustomError(UNKNOWN, "{text}", {"text": text})
        return values

    wal_warning_bytes: int = Field(default=128 * _MIB, ge=0, description=f"{_WAL} warns.")
    wal_error_bytes: int = Field(default=1024 * _MIB, ge=0, description=f"{_WAL} fails.")
    slot_warning_seconds: float = Field(default=21_600.0, ge=0, description=f"{_SLOT} warns.")
    slot_error_seconds: float = Field(default=3600.0, ge=0, description=f"{_SLOT} fails.")
    freshness_warning_seconds: float = Field(default=300.0, ge=0, description=f"{_FRESHNESS} warns.")
    freshness_error_seconds: float = Field(default=1800.0, ge=0, description=f"{_FRESHNESS} fails.")
    row_count_tolerance: float = Field(
        default=0.01, ge=0, le=1, description="Part of a table's rows by which source and destination may differ."
    )

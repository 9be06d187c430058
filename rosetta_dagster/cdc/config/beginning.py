"""Decides which rows that a table has already are copied, before its changes are followed."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from rosetta_dagster.cdc.config.wording import worded

#: The condition of no row.
NO_ROWS: Final = "false"


class Initial(StrEnum):
    """What a table begins with at the destinations."""

    #: The rows that it has.
    COPY = "COPY"
    #: No rows: only changes from now on are replicated.
    NONE = "NONE"


class BeginningOptions(BaseModel):
    """The options of a table for what is copied of the rows that it has already."""

    initial: Initial = Field(
        default=Initial.COPY,
        description="What the table begins with at the destinations. COPY: the rows that it has. NONE: no rows, and only "
        "changes from now on.",
    )
    copy_where: str | None = Field(
        default=None,
        min_length=1,
        description="Condition of the rows that are copied. Changes of all rows are replicated. None: all rows are copied.",
    )

    @field_validator("copy_where")
    @classmethod
    def _has_rows_to_choose_from(cls, copy_where: str | None, others: ValidationInfo) -> str | None:
        if copy_where is not None and others.data.get("initial") is Initial.NONE:
            raise worded(
                "copy_where chooses among the rows that are copied, and initial NONE copies none: remove one of both"
            )
        return copy_where

    @property
    def copied_rows(self) -> str | None:
        """The condition of the rows that are copied; None for all rows."""
        return NO_ROWS if self.initial is Initial.NONE else self.copy_where

"""The options of a pipeline that only Dagster knows: they are part of the code, and in no row."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field


class DagsterOptions(BaseModel):
    """How a pipeline's run and its assets appear in Dagster."""

    run_tags: Mapping[str, Any] = Field(
        default={}, description="Tags of the pipeline's runs, as dagster-k8s/config. Those of Rosetta stay."
    )
    op_tags: Mapping[str, Any] = Field(default={}, description="Tags of the op that streams.")
    pool: str | None = Field(
        default=None, description="Dagster's pool that the op occupies a place of, for as long as the pipeline runs."
    )
    owners: Sequence[str] = Field(default=(), description="Owners of the stream and the tables, as team:data or an address.")
    group_name: str | None = Field(
        default=None, description="Group of the pipeline's assets; none: the name of the pipeline."
    )
    tags: Mapping[str, str] = Field(default={}, description="Tags of the stream and the tables.")

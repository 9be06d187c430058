"""The settings of a destination in memory."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rosetta_dagster.cdc.config.surfaces import BOUND, SHOWN, Secret


class MemoryDestinationConfig(BaseModel):
    """`destinations.config` of the type MEMORY."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: Annotated[str, SHOWN, BOUND] = Field(min_length=1, description="Name of the database in this process.")
    token: Annotated[SecretStr | None, Secret(variable="ROSETTA_TOKEN")] = Field(
        default=None, description="A secret that nothing asks for."
    )
    namespace: str | None = Field(
        default=None, alias="schema", min_length=1, description="Schema of all tables; none: as at the source."
    )

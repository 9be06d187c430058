"""The options of masks. They are written as a mapping, or as a list of texts `column=mask`, as commands have it."""

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from rosetta_dagster.cdc.change.mask import NAMES, is_mask
from rosetta_dagster.cdc.config.surfaces import VARIABLE
from rosetta_dagster.cdc.config.wording import worded


def _as_mapping(mask: Any) -> Any:
    if isinstance(mask, list | tuple) and all(isinstance(each, str) and "=" in each for each in mask):
        return {column: name for column, _, name in (each.rpartition("=") for each in mask)}
    return mask


def _known(mask: dict[str, str]) -> dict[str, str]:
    if unknown := [column for column, name in mask.items() if not is_mask(name)]:
        raise worded(f"the mask of {', '.join(unknown)} does not exist; there are {NAMES}")
    return mask


#: The mask of each masked column.
MaskRules: TypeAlias = Annotated[dict[str, str], BeforeValidator(_as_mapping), AfterValidator(_known)]


class MaskOptions(BaseModel):
    """The options of a table for what its columns are masked by."""

    mask: MaskRules = Field(
        default={},
        description="Masks of columns, as column=mask: hash, redact, year or keep_last(n). No destination has the values.",
    )


class SaltOptions(BaseModel):
    """The options of a pipeline for the salt of its masks."""

    mask_salt_env: str = Field(
        default="ROSETTA_SECRET_MASK_SALT",
        pattern=VARIABLE,
        description="Environment variable with the salt of hashed values. With one salt, equal values have equal hashes.",
    )

"""Decides where the salt of a pipeline's hashes comes from, and whether it can be one."""

from functools import partial
from typing import Final

from rosetta_dagster.cdc.change.masking import Masking
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.config.variables import read_for_row
from rosetta_dagster.cdc.errors import ConfigurationError

#: Bytes of a salt, at least: with one that can be guessed, so can the values.
SALT_LENGTH: Final = 16


def masking_of(config: PipelineConfig) -> Masking:
    """Return the masks of the pipeline's tables. `ConfigurationError` once the salt is needed and is missing."""
    return Masking(config.masks, partial(_salt, config))


def _salt(config: PipelineConfig) -> bytes:
    salt = read_for_row(config.mask_salt_env, f"pipeline {config.name}", "salt of masks").encode()
    if len(salt) < SALT_LENGTH:
        raise ConfigurationError(
            f"The salt of masks of pipeline {config.name}, in the variable {config.mask_salt_env}, has fewer than "
            f"{SALT_LENGTH} bytes, so that it could be guessed.",
            "Set it to a longer random text, as of: openssl rand -hex 32. Hashes under another salt differ.",
        )
    return salt

"""PostgreSQL servers as sources: the embedded one, or the installation of another version that the environment names."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from rosetta_dagster.embedded.postgres import NEWEST, EmbeddedPostgres

#: Names the directory of an installation, with `bin/postgres` in it. `make test-versions` sets it.
VARIABLE = "ROSETTA_TEST_SERVER"


def named_install() -> Path | None:
    """Return the installation that the environment names."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def source_version() -> int:
    """Return the major version of the sources' server."""
    install = named_install()
    if install is None:
        return NEWEST
    shown = subprocess.run([install / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+", shown)
    assert found is not None, shown
    return int(found[0])


def needs_version(version: int) -> pytest.MarkDecorator:
    """Skip a test of what the server of `make test-versions` is too old for; the gate's server is the newest."""
    return pytest.mark.skipif(source_version() < version, reason=f"needs a source of PostgreSQL {version}")


def server_for_sources(settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """Make a server for sources, not started: of the version that the environment names."""
    return EmbeddedPostgres(install=named_install(), settings=settings)

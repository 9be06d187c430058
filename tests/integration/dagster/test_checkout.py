"""`dagster dev` in a fresh checkout: no variable is needed for Dagster's instance and for loading the location."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.database import Database

CHECKOUT = Path(__file__).parents[3]

_LOAD = """
import dagster as dg
from definitions import defs
with dg.DagsterInstance.get() as instance:
    print(type(instance.run_storage).__name__)
print(sorted(sensor.name for sensor in defs().sensors))
"""


def fresh_checkout(directory: Path) -> None:
    for name in ("dagster.yaml", "workspace.yaml", "definitions.py"):
        shutil.copy(CHECKOUT / name, directory)


def bare_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "CONFIG_", "SECRET_"))}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **more}


def test_the_instance_and_the_location_load_without_any_variable(tmp_path: Path) -> None:
    fresh_checkout(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD], cwd=tmp_path, env=bare_environment(DAGSTER_HOME=str(tmp_path)),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    assert "SqliteRunStorage" in done.stdout
    assert "rosetta_control_sensor" in done.stdout


def test_production_differs_from_the_checkout_by_its_storage_alone() -> None:
    local, production = (yaml.safe_load((CHECKOUT / name).read_text()) for name in ("dagster.yaml", "deploy/dagster.yaml"))
    assert {"postgres"} == production.pop("storage").keys()
    assert local == production


def test_a_database_that_is_named_after_the_load_is_found(config_database: Database, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CONFIG_DATABASE_URL={config_database.url}\n")
    read = (
        "from rosetta_dagster.settings import Settings, open_store\n"
        "print(len(open_store(Settings(_env_file=None)).states()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", read], cwd=tmp_path, env=bare_environment(), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (0, "0\n") == (done.returncode, done.stdout), done.stderr

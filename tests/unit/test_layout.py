"""Files are short enough to be read, and names of tests are sentences that fit on a line."""

import ast
from pathlib import Path

import pytest

from tests.conftest import DAGSTERS

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
PACKAGE = TESTS.parent / "rosetta_dagster"

LINE_LIMIT, NAME_LIMIT = 500, 79
#: Of a module of the package.
MODULE_LIMIT = 400


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_decides_one_thing(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MODULE_LIMIT, "split it by what it decides"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_a_test_file_is_about_one_subject(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LINE_LIMIT, "split it by subject"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_names_of_tests_are_short_enough_to_be_read(file: Path) -> None:
    named = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    assert [] == [name for name in named if name.startswith("test_") and len(name) > NAME_LIMIT]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_test_imports_from_another_test(file: Path) -> None:
    """What two tests share stands in tests/support, or in a conftest."""
    imported = [node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    assert [] == [module for module in imported if module.startswith("tests.") and ".test_" in module]


def test_tests_of_a_running_dagster_are_divided_between_two_workers() -> None:
    """A file that is not listed would start a third Dagster."""
    users = {file.stem for file in (TESTS / "acceptance").glob("test_*.py") if "deployment: Deployment" in file.read_text()}
    listed = [stem for group in DAGSTERS.values() for stem in group]
    assert sorted(users) == sorted(listed)

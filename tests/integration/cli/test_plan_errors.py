"""`rosetta plan` reports what is wrong in the user's code in one sentence with its line, and no trace."""

import sys
from pathlib import Path

import pytest

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cli.plan import declared_pipelines

DEFINITIONS = """
import dagster as dg
from rosetta_dagster.orchestration import Pipeline, PostgresDestination, PostgresSource, rosetta_definitions

@dg.definitions
def defs():
    {body}
"""


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found", r"defs\.py cannot be loaded: ModuleNotFoundError at defs\.py:1: No module named"),
        ("def broken(:\n", r"SyntaxError at defs\.py:1"),
        ("x = 1\nundefined\n", r"NameError at defs\.py:2: name 'undefined'"),
        (DEFINITIONS.format(body="raise ValueError('hunter2')"), r"ValueError at defs\.py:7\. Correct the code"),
        (DEFINITIONS.format(body="PostgresSource(name='a', hots='h')"), "did you mean host"),
        (DEFINITIONS.format(body="Pipeline(name='a', engin='FOO')"), "did you mean engine"),
    ],
    ids=["a missing module", "a wrong syntax", "a wrong name", "an error of the code", "a setting", "an option"],
)
def test_an_error_of_the_code_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "defs.py"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        declared_pipelines(str(file))
    assert "hunter2" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="nowhere_to_be_found cannot be loaded: ModuleNotFoundError"):
        declared_pipelines("nowhere_to_be_found")


def test_a_misspelt_threshold_is_reported_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "defs.py"
    file.write_text("from rosetta_dagster.orchestration import Thresholds\nThresholds(wal_warn_bytes=1)\n")
    with pytest.raises(
        ConfigurationError, match=r"ValidationError at defs\.py:2: wal_warn_bytes: .*did you mean wal_warning"
    ):
        declared_pipelines(str(file))

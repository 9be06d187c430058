"""The virtual environment of `make`: one that is left half-made is made again, and one line says what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

#: Stands for Python: it notes its arguments, and makes an environment whose Python is itself.
FAKE = """#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && {make_environment} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    half = tmp_path / ".venv" / "bin" / "python"
    half.parent.mkdir(parents=True)
    half.write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    half.chmod(0o755)
    return tmp_path


def make(directory: Path, make_environment: str) -> "subprocess.CompletedProcess[str]":
    fake = directory / "python"
    fake.write_text(FAKE.format(log=directory / "log", make_environment=make_environment))
    fake.chmod(0o755)
    return subprocess.run(
        ["make", ".venv/demo", f"PYTHON={fake}"], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


def test_an_environment_without_pip_is_made_again(checkout: Path) -> None:
    done = make(checkout, 'cp "$0" .venv/bin/python')
    assert 0 == done.returncode, done.stderr
    assert (checkout / ".venv" / "demo").exists()
    assert "-m pip install" in (checkout / "log").read_text()
    assert "No module named pip" not in done.stderr


def test_an_environment_with_pip_is_kept(checkout: Path) -> None:
    shutil.copy("/bin/true", checkout / ".venv" / "bin" / "python")
    assert 0 == make(checkout, "exit 1").returncode
    assert "-m venv" not in (checkout / "log").read_text()


def test_where_none_can_be_made_the_line_says_what_to_install_and_nothing_is_left(checkout: Path) -> None:
    done = make(checkout, "exit 1")
    assert 0 != done.returncode
    assert "On Debian and Ubuntu: apt install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()

"""An installation of the wheel, outside of any checkout: an environment of its own over the packages of the tests'."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[2]

#: Variables that would lead back to the checkout, or to the environment of the tests.
_LEADING_BACK = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")


class Wheel(NamedTuple):
    """A wheel, and the files that are in it."""

    path: Path
    files: frozenset[str]


class Installed(NamedTuple):
    """An environment with the command `rosetta`."""

    directory: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def rosetta(self) -> Path:
        return self.directory / "bin" / "rosetta"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _LEADING_BACK}
        return {**kept, "PATH": f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}", **more}

    def run(self, *command: str | Path, cwd: Path, timeout: float = 120, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(part) for part in command], cwd=cwd, env=self.environment(**more), capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip


def build(kind: str, checkout: Path, target: Path) -> Path:
    """Build the `wheel` or the `sdist` of a checkout, and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == done.returncode, done.stdout + done.stderr
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def wheel_of(checkout: Path, target: Path) -> Wheel:
    path = build("wheel", checkout, target)
    with zipfile.ZipFile(path) as archive:
        return Wheel(path, frozenset(archive.namelist()))


def unpacked_sdist(target: Path) -> Path:
    """The checkout's sdist, unpacked."""
    with tarfile.open(build("sdist", CHECKOUT, target)) as archive:
        archive.extractall(target, filter="data")
    (unpacked,) = [path for path in target.iterdir() if path.is_dir()]
    return unpacked


def install(wheel: Path, directory: Path, *, python: str = sys.executable) -> Installed:
    """Install the wheel into a new environment. All that it depends on comes from the environment of the tests."""
    _run(python, "-m", "venv", "--without-pip", str(directory))
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python")]
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel))
    return Installed(directory)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == done.returncode, done.stdout + done.stderr

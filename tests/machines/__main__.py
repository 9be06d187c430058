"""Runs the demo in every circumstance that is named, else in all, and prints a table of what happened."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.machines.circumstances import CIRCUMSTANCES, Circumstance, NotHere, run_demo
from tests.support.installed import CHECKOUT, wheel_of

#: What fails when a machine is slow, as one that runs other tests meanwhile.
TIMED = ("FAIL START until", "FAIL PAUSE until")


def main(names: list[str]) -> int:
    """Exit code 0 when the demo worked wherever it could be tried."""
    chosen = {name: each for name, each in CIRCUMSTANCES.items() if not names or name in names}
    with tempfile.TemporaryDirectory(prefix="rosetta-machines-") as made:
        directory = Path(made)
        # Also for a user who is not the one that runs this.
        directory.chmod(0o755)
        (directory / "wheel").mkdir()
        wheel = wheel_of(CHECKOUT, directory / "wheel").path
        rows = []
        for number, (name, circumstance) in enumerate(chosen.items()):
            rows.append((name, _tried(circumstance, wheel, directory / str(number))))
            print("{}: {}".format(*rows[-1]), flush=True)
    print("\n| circumstance | `rosetta demo --check` |\n|---|---|")
    print("\n".join(f"| {name} | {outcome} |" for name, outcome in rows))
    return int(any(outcome.startswith("FAILED") for _, outcome in rows))


def _tried(circumstance: Circumstance, wheel: Path, directory: Path) -> str:
    directory.mkdir(mode=0o755)
    try:
        seconds, done = run_demo(circumstance(wheel, directory))
    except NotHere as reason:
        return f"not tried: {reason}"
    except (AssertionError, subprocess.SubprocessError) as error:
        return f"FAILED: {str(error)[-300:]}"
    if done.returncode == 0:
        return f"passed in {seconds:.0f} s"
    figures = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("FAIL")]
    if figures and all(line.startswith(TIMED) for line in figures):
        return f"passed in {seconds:.0f} s, slower than it should: {'; '.join(figures)}"
    said = figures or (done.stderr.strip() or done.stdout.strip()).splitlines()[:1]
    return f"FAILED in {seconds:.0f} s: {'; '.join(said)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

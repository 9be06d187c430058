"""Runs the tests of sources over each version, one after the other, and prints which passed."""

import os
import subprocess
import sys
import time

from tests.support.servers import VARIABLE
from tests.versions.servers import VERSIONS, NoServerError, server_of

#: What depends on the source's version: replication, schema changes, publications, copies, faults, types.
TESTS = (
    "tests/integration/delivery/test_replication.py",
    "tests/integration/delivery/test_runs.py",
    "tests/integration/delivery/test_tables_of_every_kind.py",
    "tests/integration/copies",
    "tests/integration/engines",
    "tests/integration/faults",
    "tests/integration/schema",
)


def main(names: list[str]) -> int:
    """Exit code 0 when every version was found and passed."""
    versions = [int(name) for name in names] or list(VERSIONS)
    outcomes = {version: _run(version) for version in versions}
    print("\n".join(f"PostgreSQL {version}: {outcome}" for version, outcome in outcomes.items()))
    return 0 if all(outcome.startswith("passed") for outcome in outcomes.values()) else 1


def _run(version: int) -> str:
    try:
        server = server_of(version)
    except NoServerError as error:
        return f"not run: {error}"
    print(f"PostgreSQL {version}: {server}", flush=True)
    begun = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--numprocesses", "2", *TESTS]
    code = subprocess.run(command, env={**os.environ, VARIABLE: str(server)}, check=False).returncode
    return f"{'FAILED' if code else 'passed'} in {time.monotonic() - begun:.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

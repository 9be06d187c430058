"""The command `python -m bench`: runs parts of the benchmark, prints medians and ratios, and writes everything as JSON."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import parts
from bench.face import face
from bench.parts import Scale
from bench.results import PartResult, table, write_json
from bench.servers import Servers, running_servers
from bench.snowflake import copy_and_backlog

Part = Callable[[Servers, Scale], PartResult]


def _backlog(servers: Servers, scale: Scale, *, million: bool) -> PartResult:
    name = "backlog 2,000,000" if million else "backlog 400,000"
    calls = ("CALL write_mixed(150000, 500000)", "CALL write_large(500000)") if million else (
        "CALL write_mixed(30000, 500000)", "CALL write_large(100000)")  # fmt: skip
    return parts.backlog(servers, scale, name, calls, 2_000_000 if million else 400_000)


def _hot(servers: Servers, scale: Scale) -> PartResult:
    return parts.backlog(servers, scale, "hot rows", ("CALL write_hot(20000, 20)",), 400_000)


def _inserts(servers: Servers, scale: Scale) -> PartResult:
    return parts.backlog(servers, scale, "inserts only", ("CALL write_inserts(40000)",), 400_000)


def _large(servers: Servers, scale: Scale) -> PartResult:
    return parts.backlog(servers, scale, "one transaction", ("CALL write_large(1000000)",), 1_000_000)


def _snapshot(servers: Servers, scale: Scale) -> PartResult:
    return parts.snapshot(servers, replace(scale, accounts=scale.accounts * 4, events=scale.events * 4))


def _snowflake(servers: Servers, scale: Scale) -> PartResult:
    return copy_and_backlog(servers.source, repetitions=scale.repetitions, rows=1_000_000, transactions=40_000)


#: In the order they run in; `backlog-2m` takes the longest.
PARTS: dict[str, Part] = {
    "snapshot": _snapshot,
    "backlog": partial(_backlog, million=False),
    "hot": _hot,
    "inserts": _inserts,
    "large": _large,
    "latency": parts.latency,
    "start": parts.start,
    "idle": parts.idle,
    "face": face,
    "snowflake": _snowflake,
    "backlog-2m": partial(_backlog, million=True),
}

#: What fits into five minutes.
QUICK = ("snapshot", "backlog", "hot", "inserts", "latency", "start", "idle")


def main() -> int:
    arguments = _arguments()
    repetitions = arguments.repetitions or (1 if arguments.quick else 5)
    scale = Scale(repetitions=repetitions, contenders=frozenset(arguments.contender))
    names = arguments.part or (QUICK if arguments.quick else PARTS)
    results: list[PartResult] = []
    with running_servers() as servers:
        for name in names:
            results.append(PARTS[name](servers, scale))
            sys.stdout.write(f"{table(results[-1])}\n\n")
            sys.stdout.flush()
            write_json(arguments.json, results)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"which parts; default: all ({', '.join(PARTS)})")
    parser.add_argument("--quick", action="store_true", help="one repetition of the parts that fit into five minutes")
    parser.add_argument("--repetitions", type=int, help="medians of so many; default: 5, with --quick 1")
    parser.add_argument(
        "--contender", action="append", default=[], choices=["native", "pgoutput", "debezium"], help="only these"
    )
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the measurements are written")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.part if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

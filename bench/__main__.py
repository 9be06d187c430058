"""The command `python -m bench`: runs parts of the benchmark, prints medians and ratios, and writes everything as JSON."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import LiteralString

from bench import parts
from bench.distance import distance
from bench.face import face
from bench.field import CONTENDERS, Scale
from bench.idle_fleet import idle_fleet
from bench.parts import Changes
from bench.pipelines import pipelines
from bench.results import PartResult, write_json
from bench.servers import Servers, running_servers
from bench.snowflake import copy_and_backlog
from bench.spread import over_tables
from bench.sustained import sustained
from bench.table import table
from bench.wide import wide

Part = Callable[[Servers, Scale], PartResult | Iterator[PartResult]]


def _mixed_backlog(servers: Servers, scale: Scale, *, count: int) -> PartResult:
    """Three quarters in small transactions, one in a large one."""
    calls = (f"CALL write_mixed({count * 3 // 40}, {scale.accounts})", f"CALL write_large({count // 4})")
    return parts.backlog(servers, scale, scale.mixed(), Changes(name=f"backlog {count:,}", calls=calls, count=count))


def _backlog(servers: Servers, scale: Scale, *, name: str, call: LiteralString, count: int) -> PartResult:
    return parts.backlog(servers, scale, scale.mixed(), Changes(name=name, calls=(call,), count=count))


def _snapshot(servers: Servers, scale: Scale) -> PartResult:
    return parts.snapshot(servers, replace(scale, accounts=scale.accounts * 4, events=scale.events * 4))


def _snowflake(servers: Servers, scale: Scale) -> PartResult:
    return copy_and_backlog(servers.source, repetitions=scale.repetitions, rows=1_000_000, transactions=40_000)


#: In the order they run in; `sustained` takes the longest: about a minute and a half for each contender and rate.
PARTS: dict[str, Part] = {
    "snapshot": _snapshot,
    "backlog-100k": partial(_mixed_backlog, count=100_000),
    "backlog": partial(_mixed_backlog, count=400_000),
    "hot": partial(_backlog, name="hot rows", call="CALL write_hot(20000, 20)", count=400_000),
    "inserts": partial(_backlog, name="inserts only", call="CALL write_inserts(40000)", count=400_000),
    "large": partial(_backlog, name="one transaction", call="CALL write_large(1000000)", count=1_000_000),
    "wide": wide,
    "tables": over_tables,
    "pipelines": pipelines,
    "latency": parts.latency,
    "distance": distance,
    "sustained": sustained,
    "start": parts.start,
    "idle": parts.idle,
    "idle-30": idle_fleet,
    "face": face,
    "snowflake": _snowflake,
    "backlog-2m": partial(_mixed_backlog, count=2_000_000),
}

#: The parts that run in five minutes.
QUICK = ("snapshot", "backlog", "hot", "inserts", "latency", "start", "idle")


def main() -> int:
    arguments = _arguments()
    repetitions = arguments.repetitions or (1 if arguments.quick else 5)
    scale = Scale(repetitions=repetitions, contenders=frozenset(arguments.contender))
    if arguments.rate:
        scale = replace(scale, rates=tuple(arguments.rate))
    names = arguments.part or (QUICK if arguments.quick else PARTS)
    results: list[PartResult] = []
    with running_servers() as servers:
        for name in names:
            for result in _results(PARTS[name](servers, scale)):
                results.append(result)
                sys.stdout.write(f"{table(result)}\n\n")
                sys.stdout.flush()
                write_json(arguments.json, results)
    return 0


def _results(measured: PartResult | Iterator[PartResult]) -> Iterable[PartResult]:
    return [measured] if isinstance(measured, PartResult) else measured


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"which parts; default: all ({', '.join(PARTS)})")
    parser.add_argument("--quick", action="store_true", help="one repetition of the parts that fit into five minutes")
    parser.add_argument("--repetitions", type=int, help="medians of so many; default: 5, with --quick 1")
    parser.add_argument("--contender", action="append", default=[], choices=CONTENDERS, help="only these")
    parser.add_argument(
        "--rate", action="append", type=int, default=[], help="rows/s of the part `sustained`; default: 20000 and 30000"
    )
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the measurements are written")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.part if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

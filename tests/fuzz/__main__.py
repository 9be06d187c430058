"""The command: workloads of one seed after the other for some time, or those that are named."""

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterable

from rosetta_dagster.cdc.change.position import Engine

from .description import described
from .execution import Tally, execute
from .reduction import reduced
from .runs import Failure
from .seeds import drawn
from .stage import Stage
from .workloads import Workload, surrounded_workloads, workloads


def main() -> int:
    options = _options()
    seeds: Iterable[int] = options.seed or itertools.count(random.randrange(2**31))
    deadline = time.monotonic() + options.seconds if options.seconds else float("inf")
    tally, began, failed = Tally(), time.monotonic(), 0
    with Stage() as stage:
        for seed in seeds:
            if time.monotonic() > deadline:
                break
            failed += not _passes(stage, seed, options, tally)
            if failed and not options.keep_going:
                break
    _summarize(tally, time.monotonic() - began, failed)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long to go on; without it until the seeds end")
    parser.add_argument("--seed", type=int, nargs="*", help="just these workloads")
    parser.add_argument(
        "--engine",
        type=lambda name: Engine(name.upper()),
        choices=list(Engine),
        help="instead of a random choice for each workload",
    )
    parser.add_argument(
        "--kinds",
        choices=["stream", "around"],
        default="around",
        help="around: also what no stream carries, as tables that are replaced, renamed or not published for a moment",
    )
    parser.add_argument("--reduce", type=float, default=60.0, help="seconds to make a failing workload smaller")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    return parser.parse_args()


def _passes(stage: Stage, seed: int, options: argparse.Namespace, tally: Tally) -> bool:
    strategy = workloads if options.kinds == "stream" else surrounded_workloads
    workload = drawn(strategy(seed, options.engine), seed)
    try:
        execute(stage, workload, tally)
    except Failure as failure:
        engine = f" ENGINE={options.engine}" if options.engine else ""
        print(f"FAILED: make fuzz SEED={seed}{engine} KINDS={options.kinds}\n{failure}", flush=True)
        smaller = _reduced(stage, workload, failure, options.reduce)
        print(f"The smallest workload that was found:\n{described(smaller)}", flush=True)
        return False
    return True


def _reduced(stage: Stage, workload: Workload, failure: Failure, seconds: float) -> Workload:
    tally = Tally()

    def fails(smaller: Workload) -> bool:
        try:
            execute(stage, smaller, tally)
        except Failure as found:
            return found.kind == failure.kind
        return False

    return reduced(workload, fails, seconds=seconds)


def _summarize(tally: Tally, seconds: float, failed: int) -> None:
    print(
        f"{tally.workloads} workloads passed, {failed} failed, in {seconds:.0f} s: "
        f"{tally.workloads / seconds:.1f} workloads/s, {tally.changes} rows written, {tally.changes / seconds:.0f}/s; "
        f"{tally.set_aside} tables were set aside, as they may be."
    )
    for title, counts in (("acts", tally.acts), ("runs ended by", tally.endings), ("refused by the source", tally.refused)):
        print(f"  {title}: {', '.join(f'{name} {count}' for name, count in counts.most_common())}")


if __name__ == "__main__":
    sys.exit(main())

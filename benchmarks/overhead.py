"""What a no-op task costs on two slots, beside the physical limit and other tools.

The contenders take turns (A B C A B C ...), so that what else the machine does hits all alike; the ratio is
that of the medians.  A time runs from the first result, which stands for a warm-up task, to the last; what
starting and stopping take is in the columns `first` and, for a whole run, in `total_us` of --json.  CPU is user
and system time of all processes; on a busy machine it is the steadier number, and page faults, which are what a
fork costs, do not depend on the load at all.  There are two limits, each a fork per task with the same file
operations and no library: of the smallest Python that there is, and of one that has dill loaded, which any tool
that runs functions of scripts and notebooks needs.  `others` is the share of the
machine that other programs used meanwhile, in percent: do not trust rows in which it is large.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import Contender, Report, Row, folder_arguments, interleaved, positive, scratch, script, spread

COMMAND = "overhead"
LIMIT, LIMIT_FSYNC = "limit", "limit, fsync"
LIMIT_DILL, LIMIT_DILL_FSYNC = "limit, dill loaded", "limit, dill loaded, fsync"


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=2000, help="tasks per contender; slow ones get fewer (2000)")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--peers", default=",".join(peers.USUAL),
                        help=f"all, none, or some of {', '.join(peers.PEERS)} (default: {','.join(peers.USUAL)})")
    parser.add_argument("--environments", help="keep the virtual environments of the peers in this folder")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    names = peers.chosen(options.peers)
    with scratch(options, report) as folder, tempfile.TemporaryDirectory(prefix="benchmark-venvs-") as temporary:
        environments = Path(options.environments or temporary).absolute()
        found = [*limits(options.n), *ours(options.n), *peers.contenders(names, options.n, environments, report)]
        working = interleaved(found, options.rounds, folder, report)
    by_name = {contender.name: contender for contender in working}
    report.table("us per no-op task, two slots", [row(c, by_name) for c in working])
    goals(by_name, report)


def limits(n: int) -> list[Contender]:
    small = [sys.executable, "-S", "-E"]
    dill = [sys.executable]
    return [Contender(LIMIT, script("limit", "-n", n, python=small), n),
            Contender(LIMIT_FSYNC, script("limit", "-n", n, "--fsync", python=small), n),
            Contender(LIMIT_DILL, script("limit", "-n", n, "--load", "dill", python=dill), n),
            Contender(LIMIT_DILL_FSYNC, script("limit", "-n", n, "--load", "dill", "--fsync", python=dill), n)]


def ours(n: int) -> list[Contender]:
    found = []
    for isolation, functions in (("process", ("importable", "main")), ("reuse", ("importable",))):
        for function in functions:
            for durability in ("none", "normal"):
                of_main = ", function of __main__" if function == "main" else ""
                command = script("ours", "-n", n, "--isolation", isolation, "--durability", durability,
                                 "--function", function)
                found.append(Contender(f"runforrest {isolation}, {durability}{of_main}", command, n))
    return found


def row(contender: Contender, others: dict[str, Contender]) -> Row:
    first = contender.median("first_s")
    return {"contender": contender.name, "n": contender.n, **spread([m["us"] for m in contender.measured]),
            "CPU": contender.median("cpu_us"), "page faults": contender.median("faults"),
            "x limit": ratio(contender, others.get(LIMIT)), "x dill limit": ratio(contender, others.get(LIMIT_DILL)),
            "first, ms": first * 1000, "others, %": max(m.get("others", 0.0) for m in contender.measured)}


def ratio(one: Contender | None, other: Contender | None) -> float:
    """How many times more time per task one takes; NaN if one of them was not measured."""
    return one.median() / other.median() if one and other else float("nan")


def goals(found: dict[str, Contender], report: Report) -> None:
    for durability in ("none", "normal"):
        process = found.get(f"runforrest process, {durability}")
        what = f"process, {durability}"
        for limit, force in ((LIMIT_DILL, LIMIT_DILL_FSYNC), (LIMIT, LIMIT_FSYNC)):
            times = ratio(process, found.get(force if durability == "normal" else limit))
            report.goal(f"{what}: at most 2 x the {limit}", times, times <= 2, " x")
        times = ratio(found.get(peers.ORIGINAL), process)
        report.goal(f"{what}: at least 40 x faster than RunForrest", times, times >= 40, " x")
        times = ratio(found.get(peers.POOL), process)
        report.goal(f"{what}: faster than the pool", times, times > 1, " x")
    us = found["runforrest reuse, none"].median()
    report.goal("reuse, none: under 300 us per task", us, us < 300, " us")

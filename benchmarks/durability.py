"""What each durability costs per no-op task on two slots, on a disk.

A time runs from the first result to the last, as for overhead; scheduling is not in it.  The contenders take
turns, and `x none` is the ratio of the medians.  Measure on the filesystem that the lists will be on: on tmpfs
nothing reaches a disk, and a virtual machine's disk may report data as forced that its host still holds in memory.
`others` is the share of the machine that other programs used meanwhile, in percent.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.common import (
    Contender,
    Report,
    Row,
    filesystem,
    folder_arguments,
    interleaved,
    positive,
    scratch,
    script,
    spread,
)
from benchmarks.overhead import ratio

COMMAND = "durability"
LEVELS = ("none", "calls", "normal", "full")
ISOLATIONS = ("process", "reuse")
GOAL = 1.3


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=2000, help="tasks with isolation reuse (2000)")
    parser.add_argument("--process-n", type=positive, default=800, help="the same with isolation process (800)")
    parser.add_argument("--rounds", type=positive, default=5)
    folder_arguments(parser, beside(), "beside the current folder")


def beside() -> str:
    """Where a folder beside the current one can be made; the current one itself if not there."""
    here = os.getcwd()
    above = os.path.dirname(here)
    return above if os.access(above, os.W_OK) else here


def run(options: Any, report: Report) -> None:
    found = {(isolation, level): contender(isolation, level, options)
             for isolation in ISOLATIONS for level in LEVELS}
    with scratch(options, report) as folder:
        if filesystem(folder) == "tmpfs":
            report.warn(f"{folder} is on tmpfs, where forcing costs nothing; --dir chooses a folder on a disk")
        interleaved(list(found.values()), options.rounds, folder, report)
    report.table("us per no-op task by durability", [
        row(isolation, level, c, found[isolation, "none"]) for (isolation, level), c in found.items()])
    for isolation in ISOLATIONS:
        times = ratio(found[isolation, "normal"], found[isolation, "none"])
        report.goal(f"{isolation}: normal at most {GOAL} x none", times, times <= GOAL, " x")


def contender(isolation: str, level: str, options: Any) -> Contender:
    n = options.process_n if isolation == "process" else options.n
    command = script("ours", "-n", n, "--isolation", isolation, "--durability", level)
    return Contender(f"runforrest {isolation}, {level}", command, n)


def row(isolation: str, level: str, contender: Contender, none: Contender) -> Row:
    return {"isolation": isolation, "durability": level, "n": contender.n,
            **{f"{key} us": value for key, value in spread([m["us"] for m in contender.measured]).items()},
            "x none": ratio(contender, none), "others, %": max(m.get("others", 0.0) for m in contender.measured)}

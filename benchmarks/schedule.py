"""How many tasks per second `TaskList.schedule` takes, by durability, with the last batch forced to disk.

A function of the main program is pickled by value, which is most of its time.
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import Contender, Report, folder_arguments, interleaved, positive, scratch, script, spread

COMMAND = "schedule"
GOAL = 5000


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=20000, help="tasks (20000)")
    parser.add_argument("--rounds", type=positive, default=3)
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    n = options.n
    found = [Contender(f"runforrest, {function}, {durability}",
                       script("ours", "-n", n, "--only", "schedule", "--durability", durability,
                              "--function", function), n)
             for function in ("importable", "main") for durability in ("none", "calls", "normal", "full")]
    with scratch(options, report) as folder:
        interleaved(found, options.rounds, folder, report)
    report.table("TaskList.schedule", [
        {"function, durability": c.name.removeprefix("runforrest, "), "n": n,
         **{f"{key} us": value for key, value in spread([m["us"] for m in c.measured]).items()},
         "tasks per second": c.median("per_second"), "others, %": max(m.get("others", 0.0) for m in c.measured)}
        for c in found])
    for contender in found:
        rate = contender.median("per_second")
        report.goal(f"{contender.name.removeprefix('runforrest, ')}: at least {GOAL} tasks per second", rate,
                    rate >= GOAL)

"""Whether the runner's memory grows with the number of tasks.

The process that iterates over `TaskList.run`, and drops each task, is one by itself; the tasks were scheduled
by another.  Fork server, guards and children are not in it.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from benchmarks.common import Report, Row, counts, folder_arguments, measure, scratch, script

COMMAND = "memory"
GOAL = 0.10


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=counts, default=[1000, 100_000], help="numbers of tasks with isolation reuse, "
                                                                         "separated by commas (1000,100000)")
    parser.add_argument("--process-n", type=counts, default=[1000, 5000], help="the same with isolation process "
                                                                              "(1000,5000)")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    rows: list[Row] = []
    growths = {}
    with scratch(options, report) as folder:
        for isolation, numbers in (("reuse", options.n), ("process", options.process_n)):
            found = []
            for n in numbers:
                report.progress(f"isolation {isolation}, {n} tasks")
                found.append(_one(folder, isolation, n))
                rows.append({"isolation": isolation, "n": n, "peak, MiB": found[-1]["peak"] / 2**20,
                             "at the end, MiB": found[-1]["rss"] / 2**20,
                             "peak / first": found[-1]["peak"] / found[0]["peak"], "us per task": found[-1]["us"],
                             "bytes per task": (found[-1]["peak"] - found[0]["peak"]) / max(1, n - numbers[0])})
            growths[isolation, numbers[0], numbers[-1]] = found[-1]["peak"] / found[0]["peak"] - 1
    report.table("memory of the runner", rows)
    for (isolation, first, last), growth in growths.items():
        report.goal(f"{isolation}: peak within {GOAL:.0%} from {first} to {last} tasks", 100 * growth,
                    abs(growth) <= GOAL, " %")


def _one(folder: Any, isolation: str, n: int) -> Row:
    place = tempfile.mkdtemp(prefix="list-", dir=folder)
    try:
        measure(script("ours", "-n", n, "--only", "schedule", "--durability", "none", "--list", place), folder)
        return measure(script("ours", "-n", n, "--only", "run", "--durability", "none", "--isolation", isolation,
                              "--list", place), folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)

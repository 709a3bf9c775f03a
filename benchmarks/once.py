"""Keys that are claimed once: a folder, a Redis server and run-once, two processes on one list.

A time is that of claiming a key and reporting its success; there is no work in between.  What is done is on disk before
it is reported, in a folder and in Redis as `runforrest keyserver` starts it; the row `not forced` leaves that out, as
run-once does.  The contenders take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import (
    CONTENDERS,
    Broken,
    Contender,
    Report,
    Row,
    folder_arguments,
    interleaved,
    positive,
    scratch,
    script,
    spread,
)
from benchmarks.overhead import ratio

COMMAND = "once"
FOLDER, UNFORCED, REDIS, ORIGINAL = ("runforrest folder", "runforrest folder, not forced", "runforrest Redis",
                                     "run-once 0.4.2")
PACKAGES = ["run-once==0.4.2", "protobuf<4"]


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=5000, help="keys (5000)")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--no-original", action="store_true", help="leave run-once out")
    parser.add_argument("--environments", help="keep the virtual environment of run-once in this folder")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    with scratch(options, report) as folder, tempfile.TemporaryDirectory(prefix="benchmark-venvs-") as temporary:
        environments = None if options.no_original else Path(options.environments or temporary).absolute()
        working = interleaved(contenders(options.n, environments, report), options.rounds, folder, report)
    by_name = {contender.name: contender for contender in working}
    report.table("us per key, two processes", [row(c, by_name.get(FOLDER)) for c in working])
    for name in (REDIS, ORIGINAL):
        times = ratio(by_name.get(name), by_name.get(FOLDER))
        report.goal(f"a folder takes no longer than {name}", times, times >= 1, " x")


def contenders(n: int, environments: Path | None, report: Report) -> list[Contender]:
    """``environments``: where that of run-once is, or None to leave it out."""
    found = [Contender(name, script("keys", "-n", n, "--tool", tool), n)
             for name, tool in ((FOLDER, "folder"), (UNFORCED, "folder-none"))]
    if importlib.util.find_spec("redis") and shutil.which("redis-server"):
        found.append(Contender(REDIS, script("keys", "-n", n, "--tool", "redis"), n))
    else:
        report.warn(f"{REDIS} is left out: redis-server, or the package redis, is not installed")
    if environments is None:
        return found
    try:
        python = peers.environment(environments / "run-once", PACKAGES, report)
        command = script("keys", "-n", n, "--tool", "run-once", python=[python])
        found.append(Contender(ORIGINAL, command, n, path=(CONTENDERS,)))
    except Broken as error:
        report.warn(f"{ORIGINAL} is left out: {error}")
    return found


def row(contender: Contender, folder: Contender | None) -> Row:
    return {"contender": contender.name, "n": contender.n, "keys/s": contender.median("per_second"),
            **spread([m["us"] for m in contender.measured]), "x folder": ratio(contender, folder),
            "others, %": max(m.get("others", 0.0) for m in contender.measured)}

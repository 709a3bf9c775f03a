"""How many file operations on the shared folder a task costs, counted with strace.

The difference of two runs with different n, so that starting and leaving do not count.  `names and fsync` is
what a file server answers one by one (open, create, rename, unlink, stat of a path, listing, fsync); `all`
has reading, writing and closing, too.  `run` is what runner, fork server, guards and children do, `result` what
the iteration does to hand the finished task to the user.  What comes by the clock (heartbeats, the journal)
is in it, for as long as strace makes it all take.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Broken, Report, Row, folder_arguments, measure, positive, scratch, script

COMMAND = "operations"
GOAL = 10
OTHERS = "dirq 9, jug 24, RunForrest 222"
NAMES = re.compile(r"(open|create|rename|unlink|rmdir|mkdir|stat|statx|access|readlink|listing|link|symlink|truncate|"
                   r"chmod|chown|utime|utimensat|statfs|chdir|fsync|fdatasync|syncfs)$")
#: what several system calls are called here
ALIASES = {"openat": "open", "openat2": "open", "creat": "create", "renameat": "rename", "renameat2": "rename",
           "unlinkat": "unlink", "mkdirat": "mkdir", "newfstatat": "stat", "lstat": "stat", "stat64": "stat",
           "faccessat": "access", "faccessat2": "access", "readlinkat": "readlink", "getdents": "listing",
           "getdents64": "listing", "linkat": "link", "symlinkat": "symlink", "fchmodat": "chmod",
           "fchownat": "chown", "lchown": "chown", "futimesat": "utime", "utimes": "utime", "pread64": "pread",
           "pwrite64": "pwrite"}
LINE = re.compile(r"(?P<time>\d+\.\d+) (?P<call>\w+)\((?P<arguments>.*)")
PIECES = re.compile(r'<(?P<fd>/[^>]*)>|"(?P<text>(?:[^"\\]|\\.)*)"')
Counts = Counter[tuple[str, str]]      # (phase, call)


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=300, help="tasks of the longer run (300)")
    parser.add_argument("--durability", default="normal", choices=("none", "calls", "normal", "full"))
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    if shutil.which("strace") is None:
        raise Broken("strace is not installed; `apt-get install strace`, or whatever installs it here")
    few = max(1, options.n // 10)
    columns: dict[str, Counter[str]] = {}
    with scratch(options, report) as folder:
        for isolation in ("process", "reuse"):
            found = []
            for n in (few, max(few + 1, options.n)):
                report.progress(f"isolation {isolation}, {n} tasks")
                found.append(trace(folder, isolation, options.durability, n))
            for (phase, call), count in per_task(*found).items():
                column = "schedule" if phase == "schedule" else f"{phase}, {isolation}"
                if phase != "schedule" or isolation == "process":
                    columns.setdefault(column, Counter())[call] += count  # type: ignore[assignment]
    order = ["schedule", "run, process", "result, process", "run, reuse", "result, reuse"]
    report.table(f"file operations per task, durability {options.durability}", table(order, columns))
    for isolation in ("process", "reuse"):
        total = sum(count for column in ("schedule", f"run, {isolation}", f"result, {isolation}")
                    for call, count in columns.get(column, {}).items() if NAMES.match(call))
        report.goal(f"{isolation}: at most {GOAL} operations on names and fsync from schedule to result "
                    f"({OTHERS})", total, round(total, 1) <= GOAL)


def trace(folder: Path, isolation: str, durability: str, n: int) -> tuple[int, Counts]:
    """Run n tasks under strace; (n, how often each call was made in each phase)."""
    with tempfile.TemporaryDirectory(prefix="trace-") as traces:
        tasks = os.path.realpath(tempfile.mkdtemp(prefix="list-", dir=folder))
        marks = f"{traces}/marks"
        command = ["strace", "-ff", "--seccomp-bpf", "-qq", "-ttt", "-y", "-s", "0", "-e", "trace=%file,%desc",
                   "-e", "signal=none", "-o", f"{traces}/trace",
                   *script("ours", "-n", n, "--isolation", isolation, "--durability", durability, "--trace", marks,
                           "--list", tasks)]
        try:
            measure(command, folder)
        finally:
            shutil.rmtree(tasks, ignore_errors=True)
        return n, count(Path(traces), tasks, marks)


def count(traces: Path, tasks: str, marks: str) -> Counts:
    """Out of the files of strace, one per thread."""
    calls: list[tuple[float, bool, str]] = []
    begins: dict[str, float] = {}
    for file in traces.glob("trace.*"):
        own = [found for line in file.open(errors="replace") if (found := parse(line)) is not None]
        seen = {path[len(marks) + 1:]: time for time, _, paths in own for path in paths if path.startswith(marks + "/")}
        begins.update(seen)
        for time, call, paths in own:
            if any(path == tasks or path.startswith(tasks + "/") for path in paths):
                calls.append((time, bool(seen), call))
    if not {"schedule", "run", "end"} <= set(begins):
        raise Broken(f"strace has not seen the phases of the program: {sorted(begins)}")
    counts: Counts = Counter()
    for time, main_thread, call in calls:
        if begins["schedule"] <= time < begins["run"]:
            counts["schedule", call] += 1
        elif begins["run"] <= time < begins["end"]:
            counts["result" if main_thread else "run", call] += 1
    return counts


def parse(line: str) -> tuple[float, str, list[str]] | None:
    """(time, call, absolute paths that it names, by name or by descriptor) of a line of strace -ttt -y."""
    match = LINE.match(line)
    if match is None:
        return None
    call, text = match["call"], match["arguments"]
    end = text.rfind(") = ")
    text = text[:end] if end >= 0 else text
    call = ALIASES.get(call, call)
    if call == "open" and "O_CREAT" in text:
        call = "create"
    elif call == "stat" and 'AT_EMPTY_PATH' in text:
        call = "fstat"
    return float(match["time"]), call, list(paths(text))


def paths(text: str) -> Iterator[str]:
    """Names are relative to the descriptor before them; a descriptor counts by itself if no name follows."""
    folder = ""
    for piece in PIECES.finditer(text):
        if piece["fd"]:
            if folder:
                yield folder
            folder = piece["fd"]
        elif piece["text"]:
            yield os.path.normpath(os.path.join(folder, piece["text"]))
            folder = ""
    if folder:
        yield folder


def per_task(short: tuple[int, Counts], long: tuple[int, Counts]) -> dict[tuple[str, str], float]:
    tasks = long[0] - short[0]
    return {key: (long[1][key] - short[1][key]) / tasks for key in {*short[1], *long[1]}}


def table(order: list[str], columns: dict[str, Counter[str]]) -> list[Row]:
    calls = sorted({call for column in columns.values() for call, value in column.items() if abs(value) >= 0.005},
                   key=lambda call: (NAMES.match(call) is None, call))
    rows = [{"operation": call, **{c: round(float(columns.get(c, {}).get(call, 0)), 2) for c in order}}
            for call in calls]
    for title, wanted in (("names and fsync", True), ("all", False)):
        rows.append({"operation": title, **{
            c: round(float(sum(v for call, v in columns.get(c, {}).items() if NAMES.match(call) or not wanted)), 2)
            for c in order}})
    return rows

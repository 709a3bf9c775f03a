"""Command lines that do nothing, on two slots: `runforrest batch` beside GNU parallel, xargs and disBatch.

Each run is measured from the start of the program to its end.  xargs is the limit: a bash per line, and nothing is
recorded.  disBatch looks for the end of a command once a second, and waits up to five before it begins, so it gets
fewer lines; --disbatch-n gives it more.  The contenders take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import (
    CONTENDERS,
    SLOTS,
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

COMMAND = "commands"
OURS, PARALLEL, XARGS, DISBATCH = "runforrest batch", "GNU parallel", f"xargs -P{SLOTS}", "disBatch 3.0"
PROGRAMS = {PARALLEL: "parallel", XARGS: "xargs"}


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=500, help="lines (500)")
    parser.add_argument("--disbatch-n", type=int, default=60, help="lines for disBatch (60); 0 leaves it out")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--environments", help="keep the virtual environment of disBatch in this folder")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    with scratch(options, report) as folder, tempfile.TemporaryDirectory(prefix="benchmark-venvs-") as temporary:
        environments = Path(options.environments or temporary).absolute()
        found = contenders(options.n, min(options.n, options.disbatch_n), environments, report)
        working = interleaved(found, options.rounds, folder, report)
    by_name = {contender.name: contender for contender in working}
    report.table("ms per command `true`, two slots", [row(c, by_name.get(XARGS)) for c in working])
    ours = by_name.get(OURS)
    for name in (DISBATCH, PARALLEL):
        times = ratio(by_name.get(name), ours)
        report.goal(f"faster than {name}", times, times > 1, " x")


def contenders(n: int, disbatch_n: int, environments: Path, report: Report) -> list[Contender]:
    found = [Contender(OURS, script("command_lines", "-n", n, "--tool", "ours"), n)]
    for name, program in PROGRAMS.items():
        if shutil.which(program):
            found.append(Contender(name, script("command_lines", "-n", n, "--tool", program), n))
        else:
            report.warn(f"{name} is left out: it is not installed")
    if disbatch_n:
        try:
            python = peers.environment(environments / "disbatch", ["disbatch==3.0"], report)
            command = script("command_lines", "-n", disbatch_n, "--tool", "disbatch", python=[python])
            found.append(Contender(DISBATCH, command, disbatch_n, path=(CONTENDERS,)))
        except Broken as error:
            report.warn(f"{DISBATCH} is left out: {error}")
    return found


def row(contender: Contender, limit: Contender | None) -> Row:
    return {"contender": contender.name, "n": contender.n,
            "seconds": contender.median("seconds"),
            **spread([m["us"] / 1000 for m in contender.measured]), "CPU": contender.median("cpu_us") / 1000,
            "x xargs": ratio(contender, limit), "others, %": max(m.get("others", 0.0) for m in contender.measured)}

"""No-op calls by `Executor` on two slots, beside other executors: `submit` of all, and all results.

ProcessPoolExecutor and loky hand calls to processes of this host through pipes, Dask, parsl and executorlib through
sockets; when the program or its host dies, all that is lost.  Ours writes each call and each result to a folder.  A
row has the time of a call and what of that is `submit`, CPU of all processes, the time of a call that is alone, and
what the program holds in memory for each future.  The executors take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

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

COMMAND = "futures"
OURS, OURS_PROCESS, POOL = "runforrest Executor", "runforrest Executor, process", "ProcessPoolExecutor"
#: by name: row, packages to install, most calls
PEERS: dict[str, tuple[str, list[str], int]] = {
    "loky": ("loky", ["loky"], 10_000), "dask": ("dask.distributed", ["distributed"], 10_000),
    "executorlib": ("executorlib, block", ["executorlib"], 1000), "parsl": ("parsl", ["parsl"], 10_000)}
USUAL = "loky"
AIMS = ("dask", "parsl")           # with these, too, calls can go to other hosts


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=10_000, help="calls (10000); executorlib gets 1000 at most")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--peers", default=USUAL, help=f"all, none, or some of {', '.join(PEERS)} (default: {USUAL})")
    parser.add_argument("--environments", help="keep the virtual environments of the peers in this folder")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    names = {"all": list(PEERS), "none": []}.get(options.peers, options.peers.split(","))
    if set(names) - PEERS.keys():
        raise Broken(f"--peers takes all, none or some of {', '.join(PEERS)}, not {options.peers}")
    with scratch(options, report) as folder, tempfile.TemporaryDirectory(prefix="benchmark-venvs-") as temporary:
        environments = Path(options.environments or temporary).absolute()
        found = [*own(options.n), *others(names, options.n, environments, report)]
        working = interleaved(found, options.rounds, folder, report)
    by_name = {contender.name: contender for contender in working}
    report.table("us per no-op call, two slots", [row(c, by_name.get(POOL)) for c in working])
    for name in [name for name in AIMS if name in names]:
        times = ratio(by_name.get(PEERS[name][0]), by_name.get(OURS))
        report.goal(f"as fast as {PEERS[name][0]}", times, times >= 1, " x")


def own(n: int) -> list[Contender]:
    return [Contender(OURS, script("calls", "-n", n, "--tool", "ours"), n),
            Contender(OURS_PROCESS, script("calls", "-n", n, "--tool", "ours-process"), n),
            Contender(POOL, script("calls", "-n", n, "--tool", "processes"), n)]


def others(names: list[str], n: int, environments: Path, report: Report) -> list[Contender]:
    found = []
    for name in names:
        title, packages, most = PEERS[name]
        try:
            python = peers.environment(environments / name, packages, report)
        except Broken as error:
            report.warn(f"{title} is left out: {error}")
            continue
        count = min(n, most)
        found.append(Contender(title, script("calls", "-n", count, "--tool", name, python=[python]), count,
                               path=(CONTENDERS,)))
    return found


def row(contender: Contender, pool: Contender | None) -> Row:
    return {"contender": contender.name, "n": contender.n, **spread([m["us"] for m in contender.measured]),
            "submit": contender.median("submit_us"), "CPU": contender.median("cpu_us"),
            "alone": contender.median("alone_us"), "first, s": contender.median("first_s"),
            "bytes/future": contender.median("bytes"), "x pool": ratio(contender, pool),
            "others, %": max(m.get("others", 0.0) for m in contender.measured)}

"""A function that does nothing, mapped by `Tasker` and `cached_map`, beside mpi4py's pool and a pool of processes.

From the call of `map` to its result; processes and ranks are there already, but for `cached_map`, which starts its own.
The pools keep nothing; ours write each result to a file, and force it to disk.  MPI is that of the wheels `mpi4py` and
`mpich`, in an environment of its own.  mpi4py's pool and `Tasker` with an idle root have a rank more than slots.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import (
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

COMMAND = "mapping"
PROCESSES, POOL = "ProcessPoolExecutor.map", "MPIPoolExecutor.map"
PACKAGES = ["mpi4py", "mpich", "dill", "psutil", "click", "rich"]


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=2000, help="calls (2000)")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--no-mpi", action="store_true", help="leave out what needs mpirun")
    parser.add_argument("--environments", help="keep the virtual environment with MPI in this folder")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    with scratch(options, report) as folder, tempfile.TemporaryDirectory(prefix="benchmark-venvs-") as temporary:
        environments = Path(options.environments or temporary).absolute()
        found = [*here(options.n), *([] if options.no_mpi else under_mpirun(options.n, environments, report))]
        working = interleaved(found, options.rounds, folder, report)
    by_name = {contender.name: contender for contender in working}
    report.table("us per no-op call, two slots", [row(c, by_name.get(PROCESSES)) for c in working])


def here(n: int) -> list[Contender]:
    """What needs no MPI."""
    tools = {PROCESSES: "processes", "runforrest cached_map, reuse": "cached",
             "runforrest cached_map, process": "cached-process", "runforrest Tasker.map, no MPI": "tasker"}
    return [Contender(name, script("maps", "-n", n, "--tool", tool), n) for name, tool in tools.items()]


def under_mpirun(n: int, environments: Path, report: Report) -> list[Contender]:
    try:
        python = peers.environment(environments / "mpich", PACKAGES, report)
    except Broken as error:
        report.warn(f"what needs mpirun is left out: {error}")
        return []
    mpirun = [str(Path(python).parent / "mpirun"), "-n"]
    workers, more = [*mpirun, str(SLOTS), python], [*mpirun, str(SLOTS + 1), python]
    return [Contender(POOL, script("maps", "-n", n, "--tool", "pool", python=[*more, "-m", "mpi4py.futures"]), n),
            Contender("runforrest Tasker.map", script("maps", "-n", n, "--tool", "tasker", python=workers), n),
            Contender("runforrest Tasker.map, idle root",
                      script("maps", "-n", n, "--tool", "tasker-alone", python=more), n)]


def row(contender: Contender, pool: Contender | None) -> Row:
    return {"contender": contender.name, "n": contender.n, **spread([m["us"] for m in contender.measured]),
            "x pool": ratio(contender, pool), "others, %": max(m.get("others", 0.0) for m in contender.measured)}

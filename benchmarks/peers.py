"""The tools that runforrest is compared with, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.common import CONTENDERS, Broken, Contender, Report, script

ORIGINAL = "RunForrest 0.4.3"
POOL = "Pool(maxtasksperchild=1)"
#: by name: row, contender, packages to install, most tasks
PEERS: dict[str, tuple[str, str, list[str], int]] = {
    "pool": (POOL, "pool", [], 2000),
    "original": (ORIGINAL, "original", ["runforrest==0.4.3", "dill"], 60),
    "spawn": ("python -c pass", "spawn", [], 100),
    "dask": ("dask.distributed", "dask_local", ["distributed"], 2000),
    "jug": ("jug execute", "jug_execute", ["jug"], 2000),
}
USUAL = ["pool", "original", "spawn"]


def chosen(text: str) -> list[str]:
    """What --peers names: all, none, or some of PEERS."""
    names = {"all": list(PEERS), "none": []}.get(text, text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise Broken(f"--peers does not know {', '.join(unknown)}; it takes all, none or some of {', '.join(PEERS)}")
    return names


def contenders(names: list[str], n: int, environments: Path, report: Report) -> list[Contender]:
    """The contenders that can be had; why others can't is said as a warning."""
    found = []
    for name in names:
        row, program, packages, most = PEERS[name]
        try:
            python = environment(environments / name, packages, report) if packages else sys.executable
        except Broken as error:
            report.warn(f"{row} is left out: {error}")
            continue
        count = min(n, most)
        found.append(Contender(row, script(program, "-n", count, python=[python]), count, path=(CONTENDERS,)))
    return found


def environment(folder: Path, packages: list[str], report: Report) -> str:
    """The Python of a virtual environment with these packages; made if it is not there."""
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.exists() and complete.read_text() == " ".join(packages):
        return str(python)
    report.progress(f"installing {' '.join(packages)}")
    venv.create(folder, clear=True, with_pip=True)
    run = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
                         capture_output=True, text=True)
    if run.returncode:
        raise Broken(f"pip install {' '.join(packages)}: {run.stderr.strip()[-500:]}")
    complete.write_text(" ".join(packages))
    return str(python)

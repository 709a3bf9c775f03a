"""What fork + exit cost by what the forking process has loaded: why the fork server stays small.

`template` is the fork server as it is, before it loads anything for the tasks.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from benchmarks.common import Contender, Report, folder_arguments, interleaved, positive, scratch, script, spread

COMMAND = "fork"
TEMPLATE = "runforrest.process.server"
LOADED = {"small (python -S -E)": "", "usual (with site)": "", "template": TEMPLATE,
          "template, dill": f"{TEMPLATE},dill", "template, numpy": f"{TEMPLATE},numpy",
          "template, dill, numpy": f"{TEMPLATE},dill,numpy"}


def arguments(parser: Any) -> None:
    parser.add_argument("-n", type=positive, default=300, help="forks per measurement (300)")
    parser.add_argument("--rounds", type=positive, default=3)
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    found = []
    for name, modules in LOADED.items():
        if not all(importlib.util.find_spec(module) for module in modules.split(",") if module):
            continue
        python = [sys.executable, "-S", "-E"] if name.startswith("small") else [sys.executable]
        load = ["--load", modules, "--freeze"] if modules else []
        found += [Contender(f"{name}, {slots} at a time", script("fork_cost", "-n", options.n, "--slots", slots, *load,
                                                                python=python), options.n) for slots in (1, 2)]
    with scratch(options, report) as folder:
        interleaved(found, options.rounds, folder, report)
    small = {slots: next(c for c in found if c.name.endswith(f"{slots} at a time")).median() for slots in (1, 2)}
    report.table("us per fork + exit + wait", [
        {"loaded": c.name, **spread([m["us"] for m in c.measured]),
         "x small": c.median() / small[1 if c.name.endswith("1 at a time") else 2],
         "page faults": c.median("faults"), "RSS, MiB": c.median("rss") / 2**20, "modules": int(c.median("modules")),
         "others, %": max(m.get("others", 0.0) for m in c.measured)} for c in found])

"""A function that does nothing, mapped over numbers; under mpirun, the other ranks leave the line to the root.

--tool  tasker, tasker-alone (the root does no jobs), pool (mpi4py.futures), cached, cached-process or processes
"""

from __future__ import annotations

import os

import measuring
import noop
from measuring import now

SLOTS = measuring.SLOTS


def tasker(n, place, root_works=True):
    from runforrest.mapping import Tasker
    with Tasker(root_works=root_works) as made:
        if made.size > 1:
            made.map(f"{place}/warm.pkl", noop.noop, range(made.size))
        begun = now()
        found = made.map(f"{place}/results.pkl", noop.noop, range(n))
        return (now() - begun, [value for _, _, value in found]) if made.isroot() else None


def pool(n, place):
    from mpi4py.futures import MPIPoolExecutor
    with MPIPoolExecutor() as executor:
        list(executor.map(noop.noop, range(SLOTS)))
        begun = now()
        found = list(executor.map(noop.noop, range(n)))
        return now() - begun, found


def cached(n, place, isolation="reuse"):
    from runforrest.mapping import cached_map
    from runforrest.tasklist import TaskList
    begun = now()
    found = cached_map(noop.noop, range(n), TaskList(f"{place}/list"), nprocesses=SLOTS, isolation=isolation)
    return now() - begun, found


def processes(n, place):
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(SLOTS) as executor:
        list(executor.map(noop.noop, range(SLOTS)))
        begun = now()
        found = list(executor.map(noop.noop, range(n)))
        return now() - begun, found


TOOLS = {"tasker": tasker, "tasker-alone": lambda n, place: tasker(n, place, root_works=False), "pool": pool,
         "cached": cached, "cached-process": lambda n, place: cached(n, place, "process"), "processes": processes}


def main():
    options = measuring.arguments(tool="tasker")
    os.chdir(options.dir)
    measured = TOOLS[options.tool](options.n, options.dir)
    if measured is not None:
        seconds, found = measured
        assert found == list(range(options.n))
        measuring.out(n=options.n, us=seconds / options.n * 1e6)


if __name__ == "__main__":
    main()

"""Ranks as runners: `mpirun -n 4 python examples/mpi_runners.py`, with mpi4py.

The root drives, as a program without MPI would.  The other ranks start runners for the same task list, so that each
call runs in a process of its own, with a time limit, and is tried again if its process dies.
"""

import random

from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

from runforrest.engines import executor
from runforrest.mapping import cached_map

POINTS = 20_000


def inside(seed):
    """Which part of some random points in a square lies in the circle in it."""
    draw = random.Random(seed).random
    return sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(POINTS)) / POINTS


with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
    if pool is not None:                # on the root
        def runners(folder):
            return executor.engine(pool, folder, runners=MPI.COMM_WORLD.Get_size() - 1)

        found = cached_map(inside, range(20), "circle", nprocesses=1, engine=runners, timeout=60, retries=2)
        print(f"pi is about {4 * sum(found) / len(found):.2f}")

"""Jobs dealt out to the ranks of an MPI program: `mpirun -n 4 python examples/mpi_tasker.py`.

Each rank calls its own function, a closure over what the rank has read or made; each result is kept in a file.  Kill it
in the middle and start it again: it goes on.  Without mpirun it runs in one process.
"""

import random

from runforrest.mapping import Tasker

POINTS = 20_000

with Tasker() as tasker:
    weights = [1.0] * POINTS            # stands for data that every rank has, and that nobody wants to send around

    def inside(seed):
        """Which part of some random points in a square lies in the circle in it."""
        draw = random.Random(seed).random
        return sum(weight for weight in weights if draw() ** 2 + draw() ** 2 < 1) / POINTS

    found = tasker.map("circle.pkl", inside, range(20))
    if tasker.isroot():
        pi = 4 * sum(part for _, _, part in found) / len(found)
        print(f"{len(found)} jobs on {tasker.size} ranks: pi is about {pi:.2f}")

"""Processes that `mpirun` or `srun` has started together, as runners.

Each tells by its environment which of them it is.  A runner needs nothing of MPI: these never initialise it, and wait
for nobody; an idle one sleeps as any runner does.

    mpirun -n 4 runforrest run DIR --mpi

In a program that uses mpi4py itself, its executors are engines (`runforrest.engines.executor`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from runforrest.engines.slurm import counts
from runforrest.errors import InvalidArgument
from runforrest.folder import layout
from runforrest.folder.leases import Membership
from runforrest.folder.transitions import TaskFolder

OTHERS_SECONDS = 20.0              # for the other ranks to leave, when the list is done
OTHERS_STEP = 0.1
#: who starts ranks, and the variables with rank, size, rank on this host and how many are there
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"))      # MPICH, Intel MPI, srun --mpi=pmi2


@dataclass(frozen=True)
class World:
    """One of some processes that were started together; ``local_``: among those on its host."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    def share(self, number: int) -> int:
        """This process's part of so many things on its host; 1 at least."""
        part, rest = divmod(number, self.local_size)
        return max(1, part + (self.local_rank < rest))


def world(environment: Mapping[str, str] = os.environ) -> World | None:
    """Which of the processes of an mpirun this one is; None if it is none."""
    for names in _LAUNCHERS:
        rank, size, local_rank, local_size = (environment.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal():
            return World(int(rank), int(size), *_local(local_rank, local_size, environment))
    return None


def started_together(environment: Mapping[str, str] = os.environ) -> World:
    """The same, or which of the tasks of an srun.  Raises InvalidArgument if it is neither."""
    found = world(environment)
    rank, size = (environment.get(name, "") for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
    if found is None and rank.isdecimal() and size.isdecimal():
        found = World(int(rank), int(size), *_local("", "", environment))
    if found is None:
        raise InvalidArgument("this process was started neither by mpirun nor by srun: mpirun -n 4 runforrest run DIR "
                              "--mpi", argument="mpi")
    return found


def _local(rank: str, size: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """srun's launcher says no more than rank and size, but srun itself does."""
    if rank.isdecimal() and size.isdecimal():
        return int(rank), int(size)
    rank, node = environment.get("SLURM_LOCALID", ""), environment.get("SLURM_NODEID", "")
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    if not (rank.isdecimal() and node.isdecimal() and tasks):
        return 0, 1
    found = counts(tasks, "SLURM_STEP_TASKS_PER_NODE")
    return int(rank), found[int(node)] if int(node) < len(found) else 1


def exit_code(found: World, code: int, folder: TaskFolder) -> int:
    """With which exit code a runner ends that is one of these; ``code``: by itself (see `runforrest.cli.exits`).

    mpirun ends all when one ends with another code than 0.  So only the first tells what has become of the list, when
    the others have left; and any, what was the matter with itself, when all are ended anyway.
    """
    if found.rank != 0:
        return 0 if code < 128 else code
    until = time.monotonic() + OTHERS_SECONDS
    while Membership(folder).alive() and time.monotonic() < until:
        time.sleep(OTHERS_STEP)
    return code or int(folder.count(layout.FAIL) > 0)


def library() -> Any:
    """`mpi4py.MPI`, which initialises MPI.  Raises ImportError, and RuntimeError where there is no MPI."""
    return import_module("mpi4py.MPI")

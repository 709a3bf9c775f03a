"""Runners in a Slurm allocation that this process is in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runforrest.engines.engine import Engine
from runforrest.engines.held import Held, HeldElsewhere
from runforrest.engines.places import Place, fitting, some
from runforrest.engines.retirement import Retirement
from runforrest.engines.start import Start
from runforrest.errors import InvalidArgument, ProcessError

#: a file of NAME=VALUE lines for the environment of srun, as disBatch has it
OPTIONS_VARIABLE = "DISBATCH_SLURM_SRUN_OPTIONS_FILE"
SCONTROL_SECONDS = 60.0
QUIET_SECONDS = 10.0               # hosts that retire together are given back together
#: gives back what is not named; in a folder of its own, as scontrol leaves scripts in the current one; and some times,
#: as Slurm refuses a second change of a job that comes soon after another one
RETIRE = ('cd "$(mktemp -d)" || exit; for _ in $(seq 15); do '
          'said=$(scontrol update JobId="$SLURM_JOB_ID" NodeList="${DRIVER_NODE:+$DRIVER_NODE,}$ACTIVE" 2>&1); '
          'code=$?; case $said in *"try again"*) sleep 2;; *) break;; esac; done; '
          'rm -rf "$PWD"; echo "$said"; exit $code')
_GROUP = re.compile(r"(\d+)(?:\(x(\d+)\))?")
#: what a step of this job, or its options, would hand on to the runners' steps, which are not like it
_NOT_INHERITED = re.compile(r"SLURM_(NTASKS|NPROCS|NTASKS_PER_\w+|TASKS_PER_NODE|DISTRIBUTION|CPUS_PER_TASK|"
                            r"STEP\w*|SRUN_\w+|UMASK|(TRES|GPUS|MEM|CPUS)_PER_TASK|NNODES|NODELIST|ARBITRARY\w*|"
                            r"EXACT|EXCLUSIVE|OVERCOMMIT|THREADS_PER_CORE)")


@dataclass(frozen=True)
class Node:
    """A host of the allocation: CPUs that are ours there, and tasks that Slurm would start."""

    name: str
    cpus: int
    tasks: int


@dataclass(frozen=True)
class Allocation:
    """What the environment says of the job that this process is in.

    driver  the node on which this process is; '' if it is none of them
    """

    job: str
    nodes: tuple[Node, ...]
    driver: str
    cpus_per_task: int | None
    ntasks_per_node: int | None

    def places(self, cpus_per_task: float | None = None, tasks_per_node: int | None = None, fill: bool = False,
               warn: Callable[[str], None] = lambda text: None) -> list[Place]:
        """A place on each node, with disBatch's slots; raises InvalidArgument if there is none at all.

        ``tasks_per_node`` if given and not 0; else SLURM_NTASKS_PER_NODE; else, with ``fill``, as many as fit;
        else SLURM_TASKS_PER_NODE, or fewer if fewer fit.  What fits is told by ``cpus_per_task``, or else by
        SLURM_CPUS_PER_TASK, or else is one for each CPU.
        """
        each = cpus_per_task if cpus_per_task is not None else float(self.cpus_per_task or 1)
        if each <= 0:
            raise InvalidArgument(f"a task takes more than {each:g} cores", argument="cpus_per_task")
        if fill and (gpus := {"CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"} & set(os.environ)):
            warn(f"--fill is ignored, as {' and '.join(sorted(gpus))} {'is' if len(gpus) == 1 else 'are'} set")
            fill = False
        found = []
        for node in self.nodes:
            fit = fitting(node.cpus, each)
            slots = tasks_per_node or self.ntasks_per_node or (fit if fill else min(node.tasks, fit))
            cores = int(each) if cpus_per_task is not None else node.cpus // slots if slots else node.cpus
            found.append(Place(node.name, slots, node.cpus, cores))
        return some(found, warn)


def allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """The allocation, or None outside of one.

    Raises InvalidArgument if the environment contradicts itself, ProcessError if Slurm can't be asked.
    """
    job = environment.get("SLURM_JOB_ID") or environment.get("SLURM_JOBID", "")
    if not job:
        return None
    text = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST", "")
    if not text:
        raise InvalidArgument(f"SLURM_JOB_ID is {job}, but SLURM_JOB_NODELIST, which names the nodes of the job, is "
                              "not set; if this is no job, unset SLURM_JOB_ID, or name the hosts with -s",
                              argument="slurm")
    names = _hostnames(text, environment)
    cpus = counts(environment.get("SLURM_JOB_CPUS_PER_NODE", ""), "SLURM_JOB_CPUS_PER_NODE")
    each = _number(environment, "SLURM_CPUS_PER_TASK")
    tasks = counts(environment.get("SLURM_TASKS_PER_NODE", ""), "SLURM_TASKS_PER_NODE")
    if len(tasks) != len(names) and "SLURM_STEP_ID" in environment:     # it speaks of the step that we are in
        tasks = [number // (each or 1) for number in cpus]
    if not len(names) == len(cpus) == len(tasks):
        raise InvalidArgument(f"Slurm's environment speaks of {len(names)} nodes (SLURM_JOB_NODELIST), {len(cpus)} "
                              f"(SLURM_JOB_CPUS_PER_NODE) and {len(tasks)} (SLURM_TASKS_PER_NODE)", argument="slurm")
    here = environment.get("SLURMD_NODENAME", "")
    return Allocation(job, tuple(map(Node, names, cpus, tasks)), here if here in names else "",
                      each, _number(environment, "SLURM_NTASKS_PER_NODE"))


def counts(text: str, variable: str) -> list[int]:
    """A number for each node: ``2(x3),1`` is 2, 2, 2, 1.  Raises InvalidArgument."""
    found: list[int] = []
    for item in filter(None, text.split(",")):
        group = _GROUP.fullmatch(item)
        if group is None:
            raise InvalidArgument(f"{variable} is {text!r}: {item!r} is not N or N(xTIMES)", argument=variable)
        found += [int(group[1])] * int(group[2] or 1)
    return found


def _number(environment: Mapping[str, str], variable: str) -> int | None:
    text = environment.get(variable, "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidArgument(f"{variable} is {text!r}, and not a number", argument=variable)
    return int(text)


def _hostnames(text: str, environment: Mapping[str, str]) -> list[str]:
    try:
        asked = subprocess.run(["scontrol", "show", "hostnames", text], env=dict(environment), text=True,
                               stdin=subprocess.DEVNULL, capture_output=True, timeout=SCONTROL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ProcessError(f"this is a Slurm job, but scontrol can't be run: {error}") from None
    if asked.returncode or not asked.stdout.split():
        raise ProcessError(f"scontrol show hostnames {text!r}: exit code {asked.returncode}: {asked.stderr.strip()}")
    return asked.stdout.split()


# -- the runners ---------------------------------------------------------------------------


class HeldBySrun(HeldElsewhere):
    """A step of the job for each runner, so that a node can be given back, or die, without the others.

    The end of srun is that of its step.
    """

    def __init__(self, start: Start, cores: int) -> None:
        super().__init__(start)
        self.cores = cores

    def another(self, start: Start) -> Held:
        return HeldBySrun(start, self.cores)

    def command(self) -> list[str]:
        # --overlap: this process may be in a step itself, and that has everything
        return ["srun", "--nodes=1", "--ntasks=1", f"--cpus-per-task={self.cores}", f"--nodelist={self.start.node}",
                "--overlap", "--mem=0", "--quiet", "--input=none", "--export=ALL",
                "/bin/sh", "-c", self.start.script({})]

    def environment(self) -> dict[str, str]:
        return srun_environment(os.environ, self.start.variables())


def srun_environment(given: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """For srun: what Slurm says of the job, not of the step that this process may be in, and the lines of the user's
    file, or else what disBatch sets.  Raises InvalidArgument, OSError.
    """
    in_step = given.get("SLURM_STEP_ID", "").isdecimal()
    found = {name: value for name, value in given.items() if not _NOT_INHERITED.fullmatch(name)
             and not (in_step and name.startswith("SLURM_CPU_BIND"))}
    file = given.get(OPTIONS_VARIABLE)
    if not file:
        return {**found, "SLURM_CPU_BIND": found.get("SLURM_CPU_BIND", "cores"), "SLURM_MPI_TYPE": "none", **variables}
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            name, equals, value = line.rstrip("\n").partition("=")
            if not line.strip():
                continue
            if not equals or not name:
                raise InvalidArgument(f"{file}:{number}: {line.strip()!r} is not NAME=VALUE", argument=OPTIONS_VARIABLE)
            found[name] = value
    return {**found, **variables}


def engine(starts: Sequence[Start], places: Sequence[Place], retirement: Retirement | None = None) -> Engine:
    """A runner on each node, by an srun of its own; ``places`` are those that ``starts`` were made from."""
    srun_environment(os.environ, {})                # what is wrong with the user's file is said before anything runs
    return Engine([HeldBySrun(start, max(1, place.cores)) for start, place in zip(starts, places, strict=True)],
                  retirement)


def retirement(job: Allocation, starts: Sequence[Start], command: str | None = None,
               warn: Callable[[str], None] | None = None) -> Retirement:
    """How nodes are given back: by Slurm's own command, or another, or ('') not at all.

    The nodes that retire last are not given back by Slurm's own: the job is about to end, or goes on with other
    things, and needs them.
    """
    own = command is None
    return Retirement(RETIRE if command is None else command, [start.node for start in starts], job.driver,
                      QUIET_SECONDS, not own, warn, {**os.environ, "SLURM_JOB_ID": job.job})

"""`runforrest run`: one runner on a folder; any number of them may be at work on it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from runforrest.cli import exits
from runforrest.cli.common import (
    bytes_option,
    directory_argument,
    json_option,
    open_folder,
    put_json,
    trust_options,
)
from runforrest.cli.tokens import parse as parse_tokens
from runforrest.errors import InvalidArgument, ProcessError

if TYPE_CHECKING:
    from runforrest.folder.transitions import TaskFolder


@click.command()
@directory_argument
@click.option("-n", "--nprocesses", type=int, metavar="N",
              help="Tasks to run side by side; as many as there are usable CPUs if left out.")
@click.option("--wait", is_flag=True, help="Stay when the list is done, for tasks to come.")
@click.option("--until", metavar="TIME", help="Be gone at this time, as 18:30 or 2026-11-22T18:30.")
@click.option("--time-left", metavar="DURATION",
              help="Be gone after so long, as 90m or 1:30:00; in a Slurm job its end is known.  'none': ignore that.")
@click.option("--timeout", "--autokill", "timeout", type=float, metavar="SECONDS",
              help="End a task, with all that it started, after so long.")
@click.option("--grace", type=float, metavar="SECONDS", help="Time between TERM and KILL.")
@bytes_option("--memory", text="Memory of a task's processes, as 500M or 2G.")
@click.option("--retries", type=int, metavar="N", help="Further attempts after one that raised or timed out.")
@click.option("--crash-limit", type=int, metavar="N",
              help="Attempts that may crash, run out of memory or be lost before the task fails.")
@click.option("--isolation", type=click.Choice(["process", "reuse"]), default="process", show_default=True,
              help="A fresh process per task, or one that runs many.")
@click.option("--max-tasks", type=int, default=0, metavar="N",
              help="With --isolation reuse: replace the process after so many tasks.")
@click.option("--preload", multiple=True, metavar="MODULE",
              help="Import this once, instead of in every task; may be given several times.")
@click.option("-s", "--session", metavar="FILE", help="Load a session saved by dill before the first task.")
@click.option("--cores", type=float, metavar="N", help="Cores that its tasks may use together; one per slot if left "
                                                       "out.")
@click.option("--gpus", metavar="LIST", help="GPUs that its tasks may use, as 0,1; those that are visible if left out.")
@bytes_option("--host-memory", text="Memory that its tasks may use together, by their limits; not counted if left out.")
@click.option("--token", "tokens", multiple=True, metavar="NAME=N",
              help="How many there are of a token, here; may be given several times.")
@click.option("--cores-per-slot", type=float, metavar="N", help="CPUs to which the tasks of a slot keep.")
@click.option("--split", multiple=True, metavar="VAR",
              help="Deal the comma-separated values of this variable out to the slots.")
@click.option("--split-gpus", is_flag=True, help="Deal the visible GPUs out to the slots.")
@click.option("--most-tasks", type=int, metavar="N", help="Leave when so many tasks were begun.")
@click.option("--leave-when-dry", is_flag=True,
              help="Leave when nothing is left to be begun, also while others are at work, whose tasks may come back.")
@click.option("--mpi", "as_rank", is_flag=True,
              help="This is one of several that mpirun or srun has started: use its part of the host's CPUs, and leave "
                   "the exit code to the first of them.")
@trust_options
@click.option("--quiet", is_flag=True, help="No progress and no summary; warnings only.")
@json_option
def run(directory: str, nprocesses: int | None, wait: bool, until: str | None, time_left: str | None,
        timeout: float | None, grace: float | None, memory: int | None, retries: int | None,
        crash_limit: int | None, isolation: str, max_tasks: int,
        preload: tuple[str, ...], session: str | None, cores: float | None, gpus: str | None, host_memory: int | None,
        tokens: tuple[str, ...], cores_per_slot: float | None, split: tuple[str, ...], split_gpus: bool,
        most_tasks: int | None, leave_when_dry: bool, as_rank: bool, trust: bool, group: bool,
        key_file: str | None, quiet: bool, as_json: bool) -> None:
    """Run the tasks of a list until none is left.

    Any number of these may be at work on one folder, on any number of hosts.  The limits given here hold
    for tasks that were scheduled without.  Ctrl-C: running tasks are finished first; once more: they are
    ended, and put back.

    \b
    Exit code: 0 all tasks that it ran are done, 1 some failed, 2 wrong use, 3 trouble with the folder or
    the processes, 4 it had to leave before the list was done (its time was over, or `runforrest stop`),
    130 after Ctrl-C, 143 after SIGTERM.
    """
    from runforrest.model.limits import Limits
    from runforrest.runner import walltime
    from runforrest.runner.capacity import usable_cpus
    from runforrest.runner.options import Options, import_path
    limits = Limits(timeout, grace, memory, retries, crash_limit)
    rank = None
    if as_rank:
        from runforrest.engines import mpi  # few runners need it
        rank = mpi.started_together()
    cpus = len(usable_cpus()) if rank is None else rank.share(len(usable_cpus()))
    options = Options(cpus if nprocesses is None else nprocesses, limits, isolation, max_tasks, preload,
                      _session(session), wait, walltime.seconds_left(until, time_left),
                      cores, None if gpus is None else [name for name in gpus.split(",") if name], host_memory,
                      parse_tokens(tokens), cores_per_slot, split, split_gpus, most_tasks, leave_when_dry,
                      path=[*import_path(), os.getcwd()] if preload or session else import_path())
    folder = open_folder(directory, trust, group, key_file)
    with _per_engine(folder):
        code, summary = _run(folder, options, quiet or (rank is not None and rank.rank > 0))
    if rank is not None:
        code = mpi.exit_code(rank, code, folder)
    if as_json:
        put_json(summary)
    raise click.exceptions.Exit(code)


def _run(folder: Any, options: Any, quiet: bool) -> tuple[int, dict[str, Any]]:
    from runforrest.cli.progress import Meter, reporter
    from runforrest.runner import Runner
    from runforrest.runner.signals import forwarded
    meter = Meter()
    report = reporter(meter, folder.fs.root, options.nprocesses, quiet)
    runner = Runner(folder, options, meter.finished, report.say, meter.started)
    meter.watch(runner)
    with report, forwarded(runner):
        reason = runner.run()
    report.summary(reason)
    code = exits.BY_REASON.get(reason, exits.FAILED if meter.fail else exits.OK)
    return code, {"reason": reason, "done": meter.done, "fail": meter.fail, "seconds": round(meter.seconds(), 3)}


@contextmanager
def _per_engine(folder: TaskFolder) -> Iterator[None]:
    """In the list of a batch, what its task file has for each engine comes before and after.  Raises ProcessError."""
    from runforrest.folder import layout
    if not folder.fs.exists(layout.BATCH):
        yield
        return
    from runforrest.batch import per_engine
    failed = per_engine.run(folder.fs, per_engine.START)
    if failed is not None:
        raise ProcessError(f"nothing was run here, as PERENGINE START in line {failed.line} ended with exit code "
                           f"{failed.code}: {failed.command:.200}")
    yield
    per_engine.run(folder.fs, per_engine.STOP)


def _session(file: str | None) -> str:
    if file is None:
        return ""
    if not os.path.isfile(file):
        raise InvalidArgument(f"there is no session file {file}; dill.dump_module writes one", argument="session")
    return os.path.abspath(file)

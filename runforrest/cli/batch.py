"""`runforrest batch`: a file of command lines, as disBatch runs it."""

from __future__ import annotations

import os
import random
import signal
import stat
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from runforrest.cli import exits
from runforrest.cli.attend import LIVE_SECONDS, Live, handled, leave, say, signals_for
from runforrest.cli.common import bytes_option
from runforrest.errors import InvalidArgument

if TYPE_CHECKING:
    from runforrest.batch.driver import Driver, Outcome
    from runforrest.batch.options import BatchOptions
    from runforrest.batch.plan import Plan
    from runforrest.engines import Engine

CHECKED_BYTES = 8 << 20            # of a task file that is read whole before anything runs
NOT_NEEDED = {
    "kvsserver": "--kvsserver is not needed: runners meet in a folder, and there is no server",
    "use_address": "--use-address is not needed: runners meet in a folder, and no address must be reachable",
    "fix_paths": "--fix-paths is not needed: tasks run in the folder in which the batch was started",
    "web": "-w: there is no page for a batch yet; `runforrest status` shows it",
}


class _Abbreviated(click.Command):
    """Long options may be given by their beginnings, as those of disBatch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*map(self._whole, args[:end]), *args[end:]])

    def _whole(self, word: str) -> str:
        begun, equals, value = word.partition("=")
        names = [name for option in self.params for name in option.opts]
        if not begun.startswith("--") or begun in names:
            return word
        found = [name for name in names if name.startswith(begun)]
        return found[0] + equals + value if len(found) == 1 else word


@click.command(cls=_Abbreviated)
@click.argument("taskfile", required=False, type=click.Path())
@click.option("-s", "--ssh-node", "ssh_nodes", multiple=True, metavar="HOST:CORES[,HOST:CORES]",
              help="Run on these hosts, by ssh; localhost needs none.  Else: in the Slurm job that this is in; else on "
                   "the hosts of DISBATCH_SSH_NODELIST; else on this host.")
@click.option("-c", "--cpusPerTask", "cpus_per_task", type=float, metavar="N",
              help="Cores for each task, 1 if left out; may be a fraction.")
@click.option("-t", "--tasksPerNode", "tasks_per_node", type=int, metavar="N",
              help="Tasks side by side on each host, whatever its cores are.")
@click.option("--fill", is_flag=True, help="In a Slurm job: use all of its cores, not one per Slurm task.")
@click.option("-g", "--gpu", "gpus", is_flag=True, help="Deal the GPUs of each host out to its slots.")
@click.option("-E", "--env-resource", "env_resources", multiple=True, metavar="VAR",
              help="Deal the comma-separated values of this variable out to the slots of each host.")
@click.option("-e", "--exit-code", is_flag=True, help="Exit code 1 if a task failed.")
@click.option("-f", "--fail-fast", is_flag=True, help="Stop at the first task that fails.")
@click.option("-r", "--resume-from", multiple=True, metavar="STATUSFILE",
              help="Skip what an earlier run has done; may be given several times.")
@click.option("-R", "--retry", is_flag=True, help="With -r: run again what failed.")
@click.option("--force-resume", is_flag=True, help="With -r: skip tasks by their numbers, also where a line differs.")
@click.option("-p", "--prefix", default=".", metavar="PATH", help="Prefix of all files, or the folder for them.")
@click.option("--status-header", is_flag=True, help="Begin the status file with a line that names its fields.")
@click.option("--logfile", "log_file", default="", metavar="FILE", help="Log, instead of PREFIX_driver.log.")
@click.option("--loglevel", "log_level", default="INFO", metavar="LEVEL", help="Accepted; the log is short.")
@click.option("-C", "--context-task-limit", "context_limit", type=int, default=0, metavar="N",
              help="The hosts given here leave when they have begun so many tasks together.")
@click.option("-l", "--label", default="", metavar="LABEL", help="Of the hosts given here, in names of logs.")
@click.option("-k", "--retire-cmd", "retire_command", metavar="COMMAND",
              help="Run this when a host is not needed any more; it finds NODES, RETCODES, ACTIVE, RETIRED.")
@click.option("-K", "--no-retire", is_flag=True, help="In a Slurm job: don't give nodes back early.")
@click.option("-S", "--startup-only", is_flag=True, help="Start no host; PREFIX_dbUtil.sh adds some.")
@click.option("--taskcommand", "task_command", default="", metavar="COMMAND",
              help="Run the lines that this command prints.")
@click.option("--taskserver", "task_server", is_flag=False, flag_value="-", default=None, metavar="[ADDRESS]",
              help="Run the lines that other programs add: `DisBatcher(kvsserver=PREFIX)`.  It needs no address.")
@click.option("--mailTo", "mail_to", default="", metavar="ADDRESS", help="Send mail on how it goes.")
@click.option("--mailFreq", "mail_freq", type=int, default=0, metavar="N", help="After every N tasks; 1 if left out.")
@click.option("-w", "--web", is_flag=True, help="Accepted.")
@click.option("--kvsserver", is_flag=False, flag_value="-", default=None, metavar="[ADDRESS]", help="Not needed.")
@click.option("--use-address", default=None, metavar="ADDRESS", help="Not needed.")
@click.option("--fix-paths", is_flag=True, help="Not needed.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End a task that runs longer.")
@bytes_option("--memory", text="Memory of a task's processes, as 500M or 2G.")
@click.option("--retries", type=int, metavar="N", help="Further attempts after one that failed or timed out.")
@click.option("--durability", default="normal", show_default=True, metavar="LEVEL",
              help="What survives a power cut: none, calls, normal, full.")
@click.option("--name", default="", hidden=True, help="Of the source of lines, for its tasks and files: DisBatcher's.")
@click.option("--add-to", metavar="LIST", hidden=True, help="Add hosts to a batch that runs: PREFIX_dbUtil.sh.")
def batch(taskfile: str | None, add_to: str | None, no_retire: bool, timeout: float | None, memory: int | None,
          retries: int | None, durability: str, name: str, **given: Any) -> None:
    """Run the command lines of TASKFILE, or of standard input (-), each by bash.

    \b
    runforrest batch TASKFILE                     on this host
    runforrest batch -s node1:16,node2:16 TASKFILE
    salloc -n 64 runforrest batch TASKFILE        in a Slurm job

    Lines that begin with #DISBATCH direct how (see docs/batch.md).  What came of each line stands in
    PREFIX_status.txt, everything else in the task list PREFIX_tasklist; commands as `runforrest status` show it.

    \b
    Exit code: 0 all lines were run (with -e: and none failed), 1 the rest was not run, as a task failed (-f, BARRIER
    CHECK), or the task file is wrong somewhere, or lines may be missing, as --taskcommand has failed, 2 wrong use, 3 no
    runner is left, 4 after SIGUSR1 (its time is over), 130 after Ctrl-C, 143 after SIGTERM.
    """
    for option, why in NOT_NEEDED.items():
        if given.pop(option):
            say(why)
    if no_retire:
        given["retire_command"] = ""
    given["task_server"] = given["task_server"] is not None
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if add_to is not None:
        raise click.exceptions.Exit(_add(add_to, given))
    from runforrest.batch.options import BatchOptions
    from runforrest.model.limits import Limits
    options = BatchOptions(task_file=taskfile or "", **given)
    name = name or options.task_name
    with handled(leave, (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)):
        code = _run(options, name, Limits(timeout, None, memory, retries), durability)
    raise click.exceptions.Exit(code)


def _run(options: BatchOptions, name: str, limits: Any, durability: str) -> int:
    from runforrest.batch import begin
    from runforrest.batch.driver import Driver, engine_for
    from runforrest.batch.options import make_prefix
    from runforrest.batch.source import Source, Visitors
    from runforrest.folder.signing import key_from
    prefix = make_prefix(options.prefix, name, datetime.now(), random.randrange(1000))
    begun = _begun(options, prefix)
    if begun is not None:
        engine = None if options.startup_only else engine_for(begun.plan, options, begun.take_ranks, say)
        return _attend(begun, engine, options)
    plan, head = _plan(options, name, prefix, limits)
    engine = None if options.startup_only else engine_for(plan, options, lambda count: 0, say)
    source = None if plan.file else Visitors(plan, say) if options.task_server else Source(options, plan, say)
    try:
        begin.make_room(plan, say)
        if head == 0:
            say("No tasks to run.", "")
            begin.keep_status(plan)
            with open(plan.status_file, "wb"):
                return exits.OK
        folder, spool = begin.begin(plan, durability, with_spool=not plan.file, key=key_from(None))
        if source and spool:
            source.take_lines(spool)
        code = _attend(Driver(folder, plan, say), engine, options, new=True)
        return code or (exits.FAILED if source and source.failed else exits.OK)
    finally:
        if source:
            source.close()


def _attend(driver: Driver, engine: Engine | None, options: BatchOptions, new: bool = False) -> int:
    """Start the runners, and stay until the batch's end, or theirs; the exit code."""
    try:
        with signals_for(driver) as signals:
            if engine is None:
                click.echo(f"Run this script to add hosts:\n   {driver.plan.files.add_hosts}")
                sys.stdout.flush()
            else:
                if new:                     # they begin with 0
                    driver.take_ranks(engine.size)
                driver.add(engine)
                if new:
                    driver.feed_head()
            outcome = driver.wait(Live(driver.plan).tick, signals.asked, alone=engine is not None,
                                  again=not options.context_limit)
            if outcome.done:
                driver.see_off(signals.asked)
    finally:
        driver.close()
    outcome.failed += driver.failed_at_end
    return _end(outcome, options, signals.code)


def _begun(options: BatchOptions, prefix: str) -> Driver | None:
    """The batch with this prefix, to go on with, if it is of the same task file and not done; None if there is none.

    So a job that Slurm starts again goes on.  One that is done makes room for the run that resumes from it, and what
    somebody was making who was killed is as good as none.
    Raises TaskListExists if it is another one, or done.
    """
    from runforrest.batch import making
    from runforrest.batch.begin import exists
    from runforrest.batch.driver import Driver
    from runforrest.batch.options import Files
    from runforrest.batch.plan import Plan
    from runforrest.batch.resume import same_file
    from runforrest.cli.common import open_folder
    from runforrest.errors import NotATaskList
    files = Files(prefix)
    if not os.path.lexists(files.task_list):
        return None
    try:
        folder = open_folder(files.task_list, False)
        driver = Driver(folder, Plan.read(folder.fs), say)
    except NotATaskList as error:
        if making.is_left(files.task_list):
            making.remove(files)
            say(f"what a run that was killed while it began has left in {files.task_list} was removed")
            return None
        raise exists(files, f"{error}") from None
    if driver.is_over() and any(same_file(path, files.status) for path in options.resume_from):
        return None
    ended = driver.how_to_go_on()
    if ended:
        raise exists(files, ended)
    if driver.plan.file != os.path.abspath(options.task_file):
        raise exists(files)
    say(f"going on with the batch in {files.task_list}, as it was begun")
    return driver


def _plan(options: BatchOptions, name: str, prefix: str, limits: Any) -> tuple[Plan, int]:
    """The plan, and how many tasks the beginning of the file has: 0 if it has none at all.

    What is wrong in a file of ordinary size is said before anything runs.
    """
    from runforrest.batch import directives, per_engine
    from runforrest.batch.mail import Server
    from runforrest.batch.options import STDIN
    from runforrest.batch.plan import Plan
    from runforrest.batch.resume import Resume
    options.resume_from = [os.path.abspath(path) for path in options.resume_from]
    file = "" if options.task_file in ("", STDIN) or _is_pipe(options.task_file) else os.path.abspath(options.task_file)
    log_file = os.path.abspath(options.log_file or f"{prefix}_driver.log")
    if not os.path.isdir(os.path.dirname(log_file)):
        raise InvalidArgument(f"--logfile: there is no folder {os.path.dirname(log_file)}; make it first",
                              argument="log_file")
    plan = Plan(file, name, prefix, options, os.getcwd(), log_file, limits.to_json())
    with Resume(options.resume_from):
        pass                                    # what can't be read is told now
    if options.mail_to:
        Server.of_environment()
    if not file:
        return plan, -1                         # `Source` reads the beginning
    try:
        with open(file, "rb") as lines:
            if os.path.getsize(file) <= CHECKED_BYTES:
                head = directives.check(lines, file)
                lines.seek(0)
            else:
                head = -1
            plan.per_engine = per_engine.head(lines, file)
    except OSError as error:
        raise InvalidArgument(f"{options.task_file} can't be read: {error.strerror}", argument="taskfile") from None
    return plan, head


def _is_pipe(path: str) -> bool:
    """Whether it can be read only once, as what a shell makes of ``<(…)``."""
    return os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)


def _end(outcome: Outcome, options: BatchOptions, interrupted: int) -> int:
    if not outcome.done:
        say(outcome.problem)
        return interrupted or (exits.FAILED if outcome.wrong else exits.TROUBLE)
    if outcome.stopped:
        say(f"the rest of the task file was not run: {outcome.stopped}")
        return exits.FAILED
    if outcome.failed and options.exit_code:
        say("some tasks failed with non-zero exit codes: see the status file")
        return exits.FAILED
    return exits.OK


# -- adding hosts ---------------------------------------------------------------------------


def _add(directory: str, given: dict[str, Any]) -> int:
    """Add hosts to a batch, and wait until they are done."""
    from runforrest.batch.driver import Driver, engine_for
    from runforrest.batch.options import BatchOptions
    from runforrest.batch.plan import Plan
    from runforrest.cli.common import open_folder
    folder = open_folder(directory, False)
    plan = Plan.read(folder.fs)
    options = BatchOptions(**{**plan.options.to_json(), **{name: given[name] for name in OF_HOSTS if given[name]},
                              "startup_only": False})
    if given["retire_command"] is not None:     # '' of --no-retire, too
        options.retire_command = given["retire_command"]
    driver = Driver(folder, plan, say, helps=True)
    if driver.feeder() is not None:
        say("the batch has come to its end already")
        return exits.FAILED
    with signals_for(driver) as signals:
        try:
            driver.add(engine_for(plan, options, driver.take_ranks, say))
            while driver.running:
                driver.poll()
                signals.asked()
                time.sleep(LIVE_SECONDS)
        finally:
            driver.close()
    return signals.code or exits.OK


OF_HOSTS = ("ssh_nodes", "cpus_per_task", "tasks_per_node", "fill", "gpus", "env_resources", "context_limit", "label")

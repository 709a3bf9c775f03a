"""`TaskList`: schedule deferred calls into a folder, run them, and look at what came out."""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runforrest import commands, errors
from runforrest.arguments import check_line, check_path, check_schedule, plain
from runforrest.commands import Command
from runforrest.errors import InvalidArgument
from runforrest.folder import cleaning, identity, layout, settings, signing
from runforrest.folder.fsio import FileOps
from runforrest.folder.groups import check_group
from runforrest.folder.leases import Membership
from runforrest.folder.tokens import define as define_tokens
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.trust import Trust
from runforrest.graph import Task, defer
from runforrest.logfile import Logfile
from runforrest.model.limits import Limits
from runforrest.model.resources import Needs, check_tokens
from runforrest.results import load_task
from runforrest.runner import Options
from runforrest.runner.walltime import of_slurm_job
from runforrest.runs import Run
from runforrest.scheduling import SCHEDULED_AS, Dependencies, Scheduler, Wanted


class TaskList:
    """A list of tasks in a folder.

    directory            the folder; made if it is missing
    exist_ok             False: raise TaskListExists if the folder is there already
    pre_clean            with ``exist_ok``, first remove all tasks that are in it
    post_clean           remove everything when this object goes away
    logfile              a file that gets a line for each event, and what the tasks print
    noschedule_if_exist  if the folder is there already, keep everything as it is and let `schedule` do nothing
    durability           what survives a power cut: 'none', 'calls', 'normal' or 'full' (see docs/guarantees.md);
                         a list that is kept keeps its own
    trust                run tasks from a folder that other users may write to
    group                a list for all members of the folder's group, who are trusted: they may schedule, run and
                         look.  For a list that another user has made so: trust them
    tokens               how many there are, for all runners together, of what tasks may need, as ``{"license": 3}``
    key_file             sign everything with the key in this file, and unpickle nothing else; if left out, the file
                         that RUNFORREST_KEY_FILE names, if any (see docs/security.md)

    Raises TaskListExists, NotATaskList, FormatVersionError, UntrustedFolder, SigningKeyError, TaskListInUse.
    The first six are RunForrest's, with its defaults.
    """

    def __init__(self, directory: str | os.PathLike[str], exist_ok: bool = False, pre_clean: bool = True,
                 post_clean: bool = False, logfile: str | os.PathLike[str] | None = None,
                 noschedule_if_exist: bool = False, *, durability: str = "normal", trust: bool = False,
                 group: bool = False, key_file: str | os.PathLike[str] | None = None,
                 tokens: Mapping[str, int] | None = None) -> None:
        settings.check_durability(durability)
        check_tokens(tokens or {})
        self._cleaned = False
        self._fs = FileOps(check_path(directory, "directory"))
        self._logfile = Logfile(logfile) if logfile else None
        self._trust, self._group, self._key = trust, group, signing.key_from(key_file)
        exists = os.path.isdir(self._fs.root) and bool(os.listdir(self._fs.root))
        self._noschedule = False
        if os.path.isdir(self._fs.root) and not exists and not trust:
            settings.check_empty(self._fs, trust, group)
        if exists:
            if not (exist_ok or noschedule_if_exist):
                raise errors.TaskListExists(
                    f"TaskList directory {directory} already exists; exist_ok=True uses it, with pre_clean=False it "
                    f"keeps the tasks in it", directory=self._fs.root)
            keep = noschedule_if_exist or not pre_clean
            found = self._open(keep)
            self._group = group or found.group
            self._noschedule = noschedule_if_exist and not self._was_interrupted()
            if not keep:
                _refuse_if_in_use(self._fs)
                cleaning.clean(self._fs, keep_folders=True)
                wanted = (durability, self._group, self._key.id if self._key else "")
                if (found.durability, found.group, found.key) != wanted:    # a new list, as it was asked for
                    self._fs.unlink(layout.SETTINGS)
        self._folder = TaskFolder(self._fs, self._make(durability))
        self._scheduler, self._dependencies = Scheduler(self._folder), Dependencies(self._folder)
        if tokens:
            define_tokens(self._fs, tokens)
        if noschedule_if_exist and not self._noschedule:
            self._mark_scheduling()
        weakref.finalize(self, _force, self._folder)
        if post_clean:                     # only now: the list is known to be ours
            weakref.finalize(self, _post_clean, self._fs, os.getpid())

    def _make(self, durability: str) -> settings.Settings:
        return settings.create(self._fs, durability, self._trust, self._group, self._key)

    def _open(self, keep: bool = True) -> settings.Settings:
        try:
            return settings.open_list(self._fs, self._trust, self._group, self._key)
        except errors.SigningKeyError:
            if keep:
                raise
            return settings.open_list(self._fs)             # what is removed, unread, may have another key

    @property
    def directory(self) -> str:
        """The folder, as an absolute path."""
        return self._fs.root

    # -- schedule ------------------------------------------------------------------------

    def schedule(self, task: Task | Command | Callable[..., Any], metadata: Any = None, *, name: str | None = None,
                 priority: int = 0, timeout: float | None = None, grace: float | None = None,
                 memory: int | None = None, retries: int | Mapping[str, int] | None = None,
                 crash_limit: int | None = None, backoff: float | None = None, estimate: float | None = None,
                 cores: float = 1, gpus: int = 0, tokens: Mapping[str, int] | None = None,
                 env: Mapping[str, str | None] | None = None, cwd: str | os.PathLike[str] | None = None,
                 after: str | Task | Iterable[str | Task] = (), even_if_failed: bool = False,
                 group: str | None = None) -> str:
        """Put a task into ``todo/``, or, if it is to wait for others, into ``waiting/``.

        task        a deferred call, or a `Command`; a bare function is deferred without arguments
        metadata    anything picklable, kept with the task: ``task.metadata``
        name        what to call it in file names and listings; the function's name if left out
        priority    -499 to 499; higher is sooner
        timeout, grace, memory, retries, crash_limit, backoff, estimate
                    limits of this task (seconds, bytes): see `runforrest.model.limits.Limits`
        cores, gpus, tokens
                    what it uses up while it runs, as ``cores=2, gpus=1, tokens={"license": 1}``; a runner starts it
                    when so much is free there (see docs/resources.md)
        env         environment variables to set for it; None removes one
        cwd         the folder to run it in; if left out, the current one where it exists
        after       what must be done before: ids, tasks that were scheduled, names of groups (all of their tasks that
                    are scheduled now), or a list of these.  If one of them fails, so does this task, without being run,
                    as ``dependency_failed`` (see docs/dependencies.md)
        even_if_failed
                    run it when all of these have ended, however that was
        group       a name for it and others, for ``after``

        Returns the task's id, with which its file names begin ('' if ``noschedule_if_exist`` applies).
        Raises UnpicklableError, which names what can't be pickled, InvalidArgument, and NoSuchTask for an ``after``
        that is not in the list; then nothing was scheduled.
        """
        limits = Limits(plain(timeout), plain(grace), plain(memory), plain(retries), plain(crash_limit),
                        plain(backoff), plain(estimate))
        needs = Needs(plain(cores), plain(gpus), 0, check_tokens(tokens or {}))
        priority = plain(priority)
        check_schedule(priority, name, env, cwd)
        group = "" if group is None else check_group(group)
        line = ""
        if isinstance(task, Command):
            line, task = check_line(task.line), defer(commands.run, task.line)
        elif not isinstance(task, Task):
            if not callable(task):
                raise errors.DeferredError(f"schedule takes a task, as from defer(…), not {type(task).__name__} "
                                           f"{task!r:.60}; defer({task!r:.60}) makes one")
            task = defer(task)
        if self._noschedule:
            return ""
        gate = self._dependencies.gate(after, bool(even_if_failed)) if after != () else None
        task.__dict__.update(errorvalue=None, returnvalue=None, metadata=metadata)
        task.__dict__.pop(SCHEDULED_AS, None)
        wanted = Wanted(name or "", priority, limits, needs, env, cwd, line, metadata, group, gate)
        id, call, envelope = self._scheduler.prepare(task, wanted)
        scheduled = self._dependencies.publish(wanted, id, call, envelope)
        self._cleaned = False
        task.__dict__[SCHEDULED_AS] = id
        if self._logfile:
            self._logfile.event(str(scheduled), "schedule")
        return id

    def flush(self) -> None:
        """Force what was scheduled so far to disk, so that it survives a power cut; `run` does it, too."""
        self._folder.force()

    # -- run -----------------------------------------------------------------------------

    def run(self, nprocesses: int = 4, print_errors: bool = False, save_session: bool = False,
            autokill: float | None = None, *, ordered: bool = False, isolation: str = "process",
            max_tasks: int = 0, preload: Sequence[str] = (), grace: float | None = None, memory: int | None = None,
            retries: int | Mapping[str, int] | None = None, crash_limit: int | None = None,
            print_output: bool | None = None, time_left: float | None = None) -> Run:
        """Run what is in ``todo/`` now; iterate over the result to get the finished tasks.

        nprocesses    how many tasks run side by side
        print_errors  print the traceback of each task that failed
        save_session  give all variables of this session to the tasks (`dill.dump_module`)
        autokill      seconds after which a task is ended, with everything it started; None or 0: never
        ordered       yield in the order of scheduling, instead of as they finish
        isolation     'process': a fresh process per task; 'reuse': a process runs many, at most ``max_tasks``
        preload       modules to import once instead of in each task
        grace, memory, retries, crash_limit
                      as in `schedule`, for tasks that were scheduled without
        print_output  print what the tasks print, as they finish; by default if there is no logfile
        time_left     seconds after which this process must be gone; in a Slurm job, until that ends.  What would
                      take longer (`timeout`, or `estimate` in `schedule`) is not started, what still runs then is
                      put back, and iterating raises `errors.Stopped`

        Nothing starts before the first task is asked for.  Raises InvalidArgument at once.
        """
        options = Options(_slots(nprocesses), _run_limits(autokill, grace, memory, retries, crash_limit), isolation,
                          plain(max_tasks), preload,
                          time_left=of_slurm_job() if time_left is None else plain(time_left))
        if self._is_cleaned():
            self._make(self._folder.settings.durability)
            self._cleaned = False
        self._open()
        self._folder.force()
        self._fs.unlink(layout.SCHEDULING)
        if print_output is None:
            print_output = self._logfile is None
        return Run(self._folder, options, ordered=ordered, save_session=save_session, print_errors=print_errors,
                   print_output=print_output, logfile=self._logfile)

    # -- look ----------------------------------------------------------------------------

    def todo_tasks(self) -> Iterator[Task]:
        """The tasks in ``todo/``, in the order in which they will be started."""
        return self._tasks(layout.TODO)

    def waiting_tasks(self) -> Iterator[Task]:
        """The tasks in ``waiting/``, which wait for others (``after``), in the order of scheduling."""
        if not self._is_cleaned():
            self._open()
            for gate, name in sorted(self._dependencies.gates.waiting.tasks(), key=lambda pair: str(pair[1])):
                try:
                    yield load_task(self._fs, f"{layout.WAITING}/{gate}", name)
                except FileNotFoundError:          # let go meanwhile
                    continue

    def done_tasks(self) -> Iterator[Task]:
        """The tasks in ``done/``, in the order of scheduling."""
        return self._tasks(layout.DONE)

    def fail_tasks(self) -> Iterator[Task]:
        """The tasks in ``fail/``, in the order of scheduling."""
        return self._tasks(layout.FAIL)

    def _tasks(self, state: str) -> Iterator[Task]:
        if self._is_cleaned():
            return
        self._open()
        for name in self._folder.names(state):
            try:
                yield load_task(self._fs, state, name)
            except FileNotFoundError:          # moved meanwhile
                continue

    # -- clean ---------------------------------------------------------------------------

    def clean(self, clean_todo: bool = True, clean_done: bool = True, clean_fail: bool = True) -> None:
        """Remove the tasks in these states; with all three, the session and the folder, too.

        Foreign files stay, and the folder with them.  The list can be used again: it is empty.
        Raises TaskListInUse while runners are at work.
        """
        states = [state for state, wanted in ((layout.TODO, clean_todo), (layout.DONE, clean_done),
                                              (layout.FAIL, clean_fail)) if wanted]
        if os.path.isdir(self._fs.root):
            _refuse_if_in_use(self._fs)
            cleaning.clean(self._fs, states, keep_folders=len(states) < 3)
            self._cleaned = len(states) == 3

    def _is_cleaned(self) -> bool:
        """Whether the folder is gone because `clean` has removed it: then the list is empty, not broken."""
        return self._cleaned and not os.path.exists(self._fs.root)

    # -- a list that was only half scheduled ---------------------------------------------

    def _mark_scheduling(self) -> None:
        self._fs.unlink(layout.SCHEDULING)
        self._fs.create(layout.SCHEDULING, [json.dumps(identity.identity(local=self._folder.local)).encode()])
        atexit.register(_scheduled_all, self._fs, os.getpid())

    def _was_interrupted(self) -> bool:
        """Whether the process that first filled this list died before its first `run`: then begin anew.

        Unless others have begun to run what is there: then nothing is thrown away.
        """
        try:
            found = json.loads(self._fs.read(layout.SCHEDULING))
        except (OSError, ValueError):
            return False
        folder = TaskFolder(self._fs, settings.open_list(self._fs))
        if identity.verdict(found, folder.local) != "dead":
            return False
        if Membership(folder).alive() or any(folder.claims().values()) or folder.count(layout.DONE) \
                or folder.count(layout.FAIL):
            warnings.warn(f"{self._fs.root} was perhaps only half scheduled when its process died, and some of it has "
                          f"run since: nothing is scheduled; clean() and schedule again if tasks are missing",
                          stacklevel=3)
            return False
        cleaning.clean(self._fs, [layout.TODO], keep_folders=True)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """A session that is saved may hold the list; its copy must not clean up."""
        return {"directory": self._fs.root, "trust": self._fs.trust.to_json(), "group": self._group}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._cleaned = False
        self._fs = FileOps(state["directory"], trust=Trust.from_json(state["trust"]))
        self._trust, self._group, self._key = self._fs.trust.anyone, state["group"], self._fs.trust.key
        self._logfile, self._noschedule = None, False
        self._folder = TaskFolder(self._fs, settings.Settings())
        self._scheduler, self._dependencies = Scheduler(self._folder), Dependencies(self._folder)

    def __repr__(self) -> str:
        return f"TaskList({self._fs.root!r})"


def _refuse_if_in_use(fs: FileOps) -> None:
    alive = Membership(TaskFolder(fs, settings.open_list(fs))).alive()
    if alive:
        raise errors.TaskListInUse(
            f"{fs.root} is being worked on by {', '.join(alive)}; stop {'it' if len(alive) == 1 else 'them'} "
            f"first, or use another folder", directory=fs.root, runners=alive)


def _force(folder: TaskFolder) -> None:
    """The list object is gone, or the interpreter ends: what it scheduled last is forced now."""
    try:
        folder.force()
    except OSError:                        # the folder was removed, or is out of reach: nobody to tell
        pass


def _post_clean(fs: FileOps, pid: int) -> None:
    """The list object is gone, or the interpreter ends; ``__del__`` would come when half of that is gone."""
    if pid == os.getpid() and os.path.isdir(fs.root):      # not in a fork
        try:
            _refuse_if_in_use(fs)
            cleaning.clean(fs)
        except (errors.RunforrestError, OSError):
            pass


def _slots(nprocesses: Any) -> Any:
    """RunForrest took ``cpu_count() / 2``, and rounded 1.5 up."""
    number = plain(nprocesses)
    return math.ceil(number) if isinstance(number, float) and 0 < number < math.inf else number


def _run_limits(autokill: Any, *others: Any) -> Limits:
    try:
        return Limits(plain(autokill) or None, *map(plain, others))
    except InvalidArgument as error:
        if vars(error).get("argument") != "timeout":
            raise
        raise InvalidArgument(str(error).replace("timeout", "autokill", 1), argument="autokill") from None


def _scheduled_all(fs: FileOps, pid: int) -> None:
    """The process that filled the list ends, and not by an exception: what it has scheduled is all there is."""
    if pid == os.getpid() and not hasattr(sys, "last_value"):
        try:
            fs.unlink(layout.SCHEDULING)
        except OSError:
            pass

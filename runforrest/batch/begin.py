"""Making the list of a batch, with its feeder as the first task."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial

from runforrest.batch import feeder, making
from runforrest.batch.options import Files
from runforrest.batch.plan import Plan
from runforrest.batch.resume import name_aside, put_back, same_file
from runforrest.batch.spool import Spool
from runforrest.errors import TaskListExists
from runforrest.folder import layout, settings
from runforrest.folder.fsio import FileOps
from runforrest.folder.signing import Key
from runforrest.folder.transitions import TaskFolder
from runforrest.graph import defer
from runforrest.model.limits import Limits
from runforrest.model.names import MAX_PRIORITY
from runforrest.model.resources import Needs
from runforrest.scheduling import Scheduler, Wanted

CHUNK = 1 << 20
FEEDER_CRASHES = 1_000_000             # runners that may die under the feeder: it is taken over by the next


def exists(files: Files, how: str = "`runforrest run {0}` goes on with that batch") -> TaskListExists:
    """The error that there is a batch with this prefix; ``how``: what may be done with it."""
    return TaskListExists(f"{files.task_list} is there already: {how.format(shlex.quote(files.task_list))}; to run "
                          "another one, remove it or give another --prefix", directory=files.task_list)


def make_room(plan: Plan, say: Callable[[str], None]) -> None:
    """Rename the list of a run with the same prefix, if this one resumes from it: nothing of it is lost.  Its status
    file follows with `keep_status`.

    To be called when nothing can be wrong any more with what was given.  Raises OSError.
    """
    files, options = plan.files, plan.options
    if not any(same_file(path, files.status) for path in options.resume_from):
        return
    kept = [name_aside(files.task_list)] if os.path.exists(files.task_list) else []
    for name in kept:
        os.rename(files.task_list, name)
    plan.kept = name_aside(files.status)
    options.resume_from = [plan.kept if same_file(path, files.status) else path for path in options.resume_from]
    say(f"the run that is resumed is kept as {' and '.join([*kept, plan.kept])}")


def keep_status(plan: Plan) -> None:
    """Rename the status file from which this run resumes, if it would take its place.  Raises OSError."""
    if plan.kept:
        os.rename(plan.files.status, plan.kept)


def begin(plan: Plan, durability: str = "normal", with_spool: bool = False, group: bool = False,
          key: Key | None = None) -> tuple[TaskFolder, Spool | None]:
    """Make the list of a batch, in which everything is that its runners must know; nothing runs yet.

    with_spool  its lines come from this program
    Raises TaskListExists if there is a batch with its prefix, OSError if the folder can't be made.
    """
    try:
        making.make(plan.files.task_list, plan.kept)
    except FileExistsError:
        raise exists(plan.files) from None
    try:
        keep_status(plan)                           # where the mark says
        return _filled(plan, durability, with_spool, group, key)
    except BaseException:
        put_back(plan.kept, plan.files.status)
        shutil.rmtree(plan.files.task_list, ignore_errors=True)
        raise


def _filled(plan: Plan, durability: str, with_spool: bool, group: bool, key: Key | None) -> \
        tuple[TaskFolder, Spool | None]:
    fs = FileOps(plan.files.task_list)
    folder = TaskFolder(fs, settings.create(fs, durability, False, group, key))
    if folder.settings.force_calls:
        FileOps(os.path.dirname(fs.root)).force_folder("")
    with open(plan.status_file, "wb"):
        pass                               # it tells of this batch only
    _write_script(plan, folder)
    if plan.file:
        _keep_lines(plan.file, folder)
    if plan.options.fail_fast:
        fs.create(layout.FAIL_FAST, [b""])
    spool = Spool(folder) if with_spool else None
    if spool:
        plan.reader = spool.membership.runner
    wanted = Wanted(feeder.LABEL, MAX_PRIORITY, Limits(crash_limit=FEEDER_CRASHES), Needs(0, service=True),
                    cwd=plan.cwd)
    folder.schedule(*Scheduler(folder).prepare(defer(feeder.feed), wanted))
    plan.write(fs)                         # last: a list with a plan is whole
    making.made(fs)
    folder.force()
    return folder, spool


def _keep_lines(path: str, folder: TaskFolder) -> None:
    """Copy the task file, so that whoever feeds reads the same, on any host, whatever becomes of the file."""
    with open(path, "rb") as file:
        folder.fs.create(layout.LINES, iter(partial(file.read, CHUNK), b""), folder.settings.force_calls)
    folder.fs.create(layout.LINES_END, [b""])


def _write_script(plan: Plan, folder: TaskFolder) -> None:
    """PREFIX_dbUtil.sh: adds hosts, or shows how it goes."""
    me = f"{shlex.quote(sys.executable)} -m runforrest"
    where = shlex.quote(folder.fs.root)
    text = ("#!/bin/bash\n# Adds hosts to this batch, with the options of `runforrest batch` for that; --mon shows how "
            f"it goes.\nif [[ ${{1-}} == --mon ]]; then exec {me} status {where}; fi\n"
            f'exec {me} batch --add-to {where} "$@"\n')
    with open(plan.files.add_hosts, "wb") as file:
        os.fchmod(file.fileno(), 0o700)
        file.write(os.fsencode(text))

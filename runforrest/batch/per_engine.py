"""Commands that each engine runs when it joins and when it leaves: ``#DISBATCH PERENGINE``.

An engine is a runner.  What became of its commands it leaves in the list, for the status file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import IO, Any

from runforrest import bash
from runforrest.batch.directives import PerEngine, parse
from runforrest.batch.environment import variables
from runforrest.batch.patience import patiently
from runforrest.batch.plan import Plan
from runforrest.batch.ranks import RANK
from runforrest.batch.statusfile import PER_ENGINE, StatusLine, written
from runforrest.folder import identity, layout
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.process import system
from runforrest.process.execution import SNIPPET, shortened
from runforrest.process.rank import without_rank

START, STOP = "START", "STOP"


def run(fs: FileOps, when: str) -> StatusLine | None:
    """Run the batch's commands for this moment, ``START`` or ``STOP``, one after another, and leave their records.

    Returns the record of the first that failed, after which no further one is run; None if all went well.
    Nothing is run for a list that is not a batch's.
    """
    if not fs.exists(layout.BATCH):
        return None
    plan = Plan.read(fs)
    for each in plan.per_engine:
        if each["when"] == when:
            record = _run_one(plan, each["task"], each["line"], each["command"])
            patiently(partial(_leave, fs, record), _say)
            if record.code:
                return record
    return None


def _run_one(plan: Plan, number: int, line: int, command: str) -> StatusLine:
    env = {**without_rank(os.environ), **variables(plan.job, plan.name, number, line, -1),
           "DISBATCH_CYLINDER_RANK": "-1"}
    begun = time.time()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _exits_on_signals(), bash.program(command) as (arguments, fds):
            process = subprocess.Popen(arguments, env=env, cwd=plan.cwd, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=err, start_new_session=True, pass_fds=fds,
                                       preexec_fn=partial(system.die_with_parent, os.getpid(), signal.SIGKILL))
            try:
                code = process.wait()
            finally:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
        return StatusLine(PER_ENGINE, number, line, -1, identity.hostname(), process.pid, code, begun, time.time(),
                          *_quoted(out), *_quoted(err), command=written(command))


@contextmanager
def _exits_on_signals() -> Iterator[None]:
    """Have what would end this process at once raise SystemExit, so that it leaves nothing behind."""
    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    saved = {signum: signal.signal(signum, leave) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
             if signal.getsignal(signum) == signal.SIG_DFL}
    try:
        yield
    finally:
        for signum, handler in saved.items():
            signal.signal(signum, handler)


def _quoted(file: IO[bytes]) -> tuple[int, str]:
    """(bytes, the beginning and the end)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = file.read(SNIPPET)
    file.seek(max(SNIPPET, size - SNIPPET))
    return size, shortened(found + file.read(SNIPPET))


def _say(text: str) -> None:
    """On standard error, which may be on the same full disk."""
    with suppress(OSError):
        print(f"runforrest: {text}", file=sys.stderr, flush=True)


def _leave(fs: FileOps, record: StatusLine) -> None:
    try:
        fs.mkdir(layout.ENGINES)
    except FileExistsError:
        pass
    fs.create(f"{layout.ENGINES}/{identity.hostname()}.{os.getpid()}.{record.line}.{new_tag()}",
              [json.dumps(asdict(record)).encode()])


def head(lines: Iterable[bytes], file: str) -> list[dict[str, Any]]:
    """The commands for engines at the beginning of a task file, for `Plan.per_engine`; reads no further than needed.

    Raises TaskFileError.
    """
    found = []
    for item in parse(lines, file):
        if not isinstance(item, PerEngine):
            break
        found.append(asdict(item))
    return found


def collect(fs: FileOps) -> Iterator[StatusLine]:
    """The records that engines have left; each is taken away when it was used."""
    for entry in fs.entries(layout.ENGINES):
        if entry.startswith(RANK):
            continue
        path = f"{layout.ENGINES}/{entry}"
        try:
            record = StatusLine(**json.loads(fs.read(path)))
        except (OSError, ValueError, TypeError):        # it is just being written
            continue
        yield record
        fs.unlink(path)

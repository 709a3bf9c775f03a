"""The feeder: puts the lines of a task file into ``todo/``, a window of them at a time, and writes the status file.

It is a task of the list itself, a service that needs no core: when its runner dies, another one takes it over.  All
that it must know is in the list: which tasks have been published tells how far the file was read, and the status file
tells what was recorded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from runforrest import commands
from runforrest.batch import per_engine
from runforrest.batch.directives import Barrier, PerEngine, TaskLine, parse
from runforrest.batch.ends import End, Ends
from runforrest.batch.environment import variables
from runforrest.batch.mail import Mail, Server
from runforrest.batch.patience import patiently
from runforrest.batch.plan import Plan
from runforrest.batch.recording import NOT_STARTED, status_line
from runforrest.batch.resume import Resume
from runforrest.batch.spool import follow, is_member
from runforrest.batch.statusfile import (
    BARRIER,
    CHECK,
    LOST,
    NEVER_STARTED,
    PER_ENGINE,
    SKIPPED,
    TASK,
    StatusFile,
    StatusLine,
    brief,
    failure,
    scan,
    written,
)
from runforrest.folder import identity, layout, requests, settings, signing
from runforrest.folder.attempts import new_tag
from runforrest.folder.cancelling import Canceller
from runforrest.folder.fsio import FileOps
from runforrest.folder.transitions import TaskFolder
from runforrest.graph import defer
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.scheduling import Scheduler, Wanted

LABEL = "feeder"                   # of its task
WINDOW = 4096                      # tasks that are published and have not ended
HEAD, HEAD_SECONDS = 1024, 1.0         # tasks that are published while runners start
FAILED_SECONDS = 0.05              # between two looks for failures while lines are fed, if one ends the batch
IDLE_LEAST, IDLE_MOST = 0.01, 1.0      # pauses between two looks at what has ended (seconds)
LOOKS, REMOVED_SECONDS = 5, 2.0    # looks for tasks that seem to be nowhere, and seconds between them


def feed() -> dict[str, Any]:
    """Run a batch to its end; returns `Feeder.result`.  To be called in a task of the list.

    Raises TaskFileError, and OSError if the folder or the status file is in trouble.
    """
    fs = FileOps(os.environ["RUNFORREST_DIR"])
    open_settings = settings.open_list(fs, True, False, signing.key_from(None))
    folder = TaskFolder(fs, open_settings)
    return Feeder(folder, os.environ["RUNFORREST_RUNNER"], os.environ["RUNFORREST_TASK"]).run()


class Feeder:
    """Feeds one batch.

    runner  by whose folder tasks are published
    id      of this feeder's own task
    """

    def __init__(self, folder: TaskFolder, runner: str, id: str) -> None:
        self.folder, self.runner, self.id = folder, runner, id
        self.plan = Plan.read(folder.fs)
        self.options = self.plan.options
        self.outstanding: dict[int, TaskLine] = {}
        self.present: set[int] = set()      # published by an earlier feeder, and not recorded
        self.early: dict[int, End] = {}     # ended, and not read from the task file yet
        self.recorded: set[int] = set()     # in the status file, from the first on that is not
        self.lowest = 0                     # below it, everything is recorded
        self.succeeded = self.failed = self.skipped = 0
        self.failed_since = False           # the last barrier
        self.stopped = ""                   # why the rest of the file is not run
        self.cut_short = ""                 # why no more lines will come
        self._scheduler = Scheduler(folder)
        self._call = defer(commands.run, "")
        self._limits = Limits.from_json(self.plan.limits)
        self._mail = Mail(Server.of_environment(), self.options.mail_to, self.options.mail_freq, self.plan.prefix,
                          self.log) if self.options.mail_to else None
        self._idle = IDLE_LEAST
        self._look_for_failed_at = 0.0
        self._missing: dict[int, int] = {}  # outstanding tasks that are nowhere, and in how many looks they were not
        self._look_for_removed_at = 0.0

    def run(self) -> dict[str, Any]:
        self._take_the_post()
        self.ends = Ends(self.folder, self.plan.tag)
        self.log(f"fed by {self.runner}: {self.plan.file or 'lines from a program'}")
        with StatusFile(self.plan.status_file, self.options.status_header) as self.status, \
                self._open_resume() as self.resume:
            self._catch_up()
            self._collect_per_engine()      # what came before the tasks that have ended already
            if self.failed and self.options.fail_fast and not self.stopped:
                self._give_up("a task has failed")      # and whoever fed then could not do this any more
            self._run_items()
            self._say_fed()
            self._wait_until_at_most(0)
            self._wait_for_retried()
            self._collect_per_engine()
        if self._mail:
            self._mail.finish(f"has ended{': ' if self.stopped else ''}{self.stopped}")
        self.log(f"done: {self.succeeded} succeeded, {self.failed} failed, {self.skipped} skipped; {self.stopped}")
        result = {"succeeded": self.succeeded, "failed": self.failed, "skipped": self.skipped, "stopped": self.stopped}
        self.folder.fs.unlink(layout.FAIL_FAST)
        self.folder.fs.unlink(layout.RESULT)
        self.folder.fs.create(layout.RESULT, [json.dumps(result).encode()])
        return result

    def note_ends(self) -> None:
        """Record what has ended since the last feeder did that, and feed nothing: all runners have left.

        Raises TaskFileError, OSError.
        """
        self._take_the_post()
        self.ends = Ends(self.folder, self.plan.tag)
        with StatusFile(self.plan.status_file, self.options.status_header) as self.status, \
                open(self.folder.fs.path(layout.LINES), "rb") as lines:
            self._catch_up()
            for item in parse(lines, self.plan.file or self.plan.name, self.lowest) if self.early else ():
                if isinstance(item, TaskLine) and item.task in self.early:
                    self.status.write(status_line(item, self.early.pop(item.task)))
                if not self.early:
                    return

    def feed_head(self) -> None:
        """Publish the first tasks of a batch that nobody has fed yet, up to a barrier; the next feeder finds them.

        Raises TaskFileError, OSError, which the next feeder will, too, if they last.
        """
        self._take_the_post()
        until = time.monotonic() + HEAD_SECONDS
        with open(self.folder.fs.path(layout.LINES), "rb") as lines:
            for number, item in enumerate(parse(lines, self.plan.file)):
                if isinstance(item, Barrier) or number >= HEAD or time.monotonic() > until:
                    break
                if isinstance(item, TaskLine) and "\0" not in item.command:
                    self._schedule(item)
            else:
                self._say_fed()
        self.folder.force()

    def _say_fed(self) -> None:
        """Runners that have nothing to do may leave, from now on."""
        try:
            self.folder.fs.create(layout.FED, [b""])
        except FileExistsError:
            pass

    def _open_resume(self) -> Resume:
        options = self.options
        resume = Resume(options.resume_from, options.retry, options.force_resume, self.plan.file or self.plan.name)
        for bad in resume.bad:
            self.log(f"{bad.file}, line {bad.line}: left out: {bad.reason}")
        return resume

    def _run_items(self) -> None:
        for item in parse(self._lines(), self.plan.file or self.plan.name, self.lowest):
            if not isinstance(item, PerEngine) and not self._is_recorded(item.task):
                self._run_item(item)
            self._look_for_failed()
            if self._has_enough():
                break                           # and waits for no more lines
        self.stopped = self.stopped or self.cut_short

    def _look_for_failed(self) -> None:
        """Not only when the window is full, if a failure ends the batch."""
        if self.options.fail_fast and time.monotonic() >= self._look_for_failed_at:
            self._collect()
            self._look_for_failed_at = time.monotonic() + FAILED_SECONDS

    def _run_item(self, item: TaskLine | Barrier) -> None:
        if isinstance(item, TaskLine) and item.task in self.present:
            self._adopt(item)
        elif self.stopped:
            pass
        elif isinstance(item, Barrier):
            self._barrier(item)
        else:
            self._feed(item)

    def _lines(self) -> Iterator[bytes]:
        """The lines, as they come; while none does, what has ended is recorded."""
        return follow(self.folder.fs, self._has_a_reader, self._wants_no_more, self.log)

    def _wants_no_more(self) -> bool:
        self._collect()
        return self._has_enough()

    def _has_enough(self) -> bool:
        """No further line is needed."""
        return bool(self.stopped) and not self.present

    def _has_a_reader(self) -> bool:
        there = is_member(self.folder, self.plan.reader)
        if not there:
            self.cut_short = f"{self.plan.reader}, from which the lines came, is gone; all that it has written was run"
        return there

    def log(self, text: str) -> None:
        """A line in the driver's log; a disk in trouble costs lines here, nothing else."""
        try:
            with open(self.plan.log_file, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{datetime.now().isoformat(sep=' ', timespec='milliseconds')} {text}\n")
        except OSError as error:
            print(f"{self.plan.log_file}: {error.strerror}", file=sys.stderr)

    # -- taking over ------------------------------------------------------------------------

    def _take_the_post(self) -> None:
        """Wait until nobody else can publish any more: until the folder of a runner that was given up is gone.

        A feeder that was put back in good order has ended before; only after a loss is there anything to wait for.
        """
        fs = self.folder.fs
        lost = next((name.lost for name in self.folder.claims().get(self.runner, []) if name.id == self.id), 0)
        try:
            before, _, count = fs.read(layout.FEEDER).decode().partition("\n")
        except FileNotFoundError:
            before, count = "", "0"
        if before and before != self.runner and lost > int(count):
            while fs.exists(f"{layout.DOING}/{before}"):
                time.sleep(IDLE_MOST)
        tmp = f"{layout.TMP}/feeder.{new_tag(8)}"
        fs.create(tmp, [f"{self.runner}\n{lost}".encode()], force=self.folder.settings.force_calls)
        fs.rename(tmp, layout.FEEDER)

    def _catch_up(self) -> None:
        """Find out what earlier feeders have recorded and published."""
        with open(self.plan.status_file, "rb") as status:
            for _, (kind, task, code) in scan(status, self.plan.status_file, [], brief):
                self._note_recorded(kind, task, code)
        for _ in range(LOOKS):
            self.present |= self._waiting_or_running()
            for end in self.ends.looked():
                if self._is_recorded(end.task):
                    self._ended_again(end)
                    continue
                self.present.add(end.task)
                self.early[end.task] = end
            published = range(self.lowest, max(self.present, default=self.lowest))
            if all(task in self.present or self._is_recorded(task) for task in published):
                break                       # else one may just have been on its way back, or be a barrier
            time.sleep(IDLE_LEAST)
        self.present -= self.recorded.union(task for task in self.present if task < self.lowest)

    def _note_recorded(self, kind: str, task: int, code: int) -> None:
        if self._mail:
            self._mail.count(kind, code)
        if kind in (TASK, SKIPPED):
            self.ends.told(task, layout.FAIL if code else layout.DONE)
            self._count(kind, code)
            self.failed -= self._is_recorded(task)      # its first record was of a failure
        elif kind in (BARRIER, CHECK):
            self.failed_since = False
        if kind != PER_ENGINE:
            self.recorded.add(task)
            self._raise_lowest()

    def _waiting_or_running(self) -> set[int]:
        """The batch's tasks in ``todo/`` and ``doing/``, but for what is moved back from there to there meanwhile."""
        found = {self.ends.number_of(name.id) for name in self.folder.scan(layout.TODO)}
        for names in self.folder.claims().values():         # not before: a task moves from todo/ to doing/
            found |= {self.ends.number_of(name.id) for name in names}
        return {number for number in found if number is not None}

    def _is_recorded(self, task: int) -> bool:
        return task < self.lowest or task in self.recorded

    def _raise_lowest(self) -> None:
        while self.lowest in self.recorded:
            self.recorded.remove(self.lowest)
            self.lowest += 1

    # -- feeding ----------------------------------------------------------------------------

    def _adopt(self, item: TaskLine) -> None:
        """An earlier feeder has published this task."""
        self.present.remove(item.task)
        self.outstanding[item.task] = item
        if item.task in self.early:
            self._ended(self.early.pop(item.task))

    def _feed(self, item: TaskLine) -> None:
        """Publish a task, or skip it; when there are enough, wait."""
        old = self.resume.record(item)
        if old is None and "\0" in item.command:
            now = time.time()
            text = "a command can't have a NUL character in it"
            old = StatusLine(TASK, item.task, item.line, item.repeat, identity.hostname(), NEVER_STARTED, NOT_STARTED,
                             now, now, err_bytes=len(text), err=text, command=written(item.command))
        if old is not None:
            self._record(old)
            return
        self.outstanding[item.task] = item
        patiently(lambda: self._schedule(item), self.log)
        if len(self.outstanding) >= WINDOW:
            self._wait_until_at_most(WINDOW * 3 // 4)

    def _schedule(self, item: TaskLine) -> None:
        plan = self.plan
        env: dict[str, str | None] = dict(variables(plan.job, plan.name, item.task, item.line, item.repeat))
        line = item.command or ":"          # of a REPEAT without a command
        self._call._args = (line,)
        wanted = Wanted(limits=self._limits, env=env, cwd=plan.cwd, command=line)
        id, call, envelope = self._scheduler.prepare(self._call, wanted, plan.id_of(item.task))
        self.folder.schedule(id, call, envelope, through=self.runner)

    def _barrier(self, item: Barrier) -> None:
        reached = time.time()
        self._wait_until_at_most(0)
        if self.stopped:
            return
        if item.key:                        # first, as who takes over passes no barrier that has a record
            patiently(lambda: self._publish(item), self.log)
        self._write(StatusLine(CHECK if item.check else BARRIER, item.task, item.line, -1, identity.hostname(),
                               os.getpid(), 0, reached, time.time(), command=written(item.command)))
        if item.check and self.failed_since:
            self.stopped = f"a task has failed before the barrier in line {item.line}, which checks"
        self.failed_since = False

    def _publish(self, barrier: Barrier) -> None:
        """Its number under its key; twice, if two feeders do it."""
        with open(self.folder.fs.path(layout.KEYS), "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": barrier.key, "task": barrier.task}) + "\n")

    # -- what has ended ---------------------------------------------------------------------

    def _wait_until_at_most(self, number: int) -> None:
        """Record what ends, until no more than this many tasks are outstanding."""
        self.folder.force()
        while len(self.outstanding) > number:
            if self._collect():
                self._idle = IDLE_LEAST
                continue
            if self._idle >= IDLE_MOST:
                self._look_for_removed()
            time.sleep(self._idle)
            self._idle = min(IDLE_MOST, self._idle * 1.5)

    def _wait_for_retried(self) -> None:
        """What a person has put back is recorded, too: to be called when all else has ended."""
        if not self._waiting_or_running():
            return
        while self._waiting_or_running():
            self._collect()
            time.sleep(IDLE_MOST)
        for end in self.ends.looked():
            self._ended(end)

    def _collect_per_engine(self) -> None:
        """What engines have run for themselves."""
        if self.plan.per_engine:
            for record in per_engine.collect(self.folder.fs):
                self._record(record)

    def _collect(self) -> bool:
        """Record what has ended since the last look; False if nothing had."""
        self._collect_per_engine()
        ends = list(self.ends.heard())
        if not ends and self.ends.look_due():
            ends = list(self.ends.looked())
        for end in sorted(ends, key=lambda end: str(end.record.get("ended"))):
            self._ended(end)
        return bool(ends)

    def _look_for_removed(self) -> None:
        """Tasks that a person has removed will never end: after some looks, each of which may miss one that moves."""
        if time.monotonic() < self._look_for_removed_at:
            return
        missing = self.outstanding.keys() - self._waiting_or_running()
        ended = {end.task: end for end in self.ends.looked()}
        for end in ended.values():
            self._ended(end)
        self._missing = {task: self._missing.get(task, 0) + 1 for task in missing - ended.keys()}
        for task, looks in self._missing.items():
            if looks >= LOOKS and task in self.outstanding:
                item = self.outstanding.pop(task)
                self.log(f"task {task} was removed from the list")
                now = time.time()
                self._record(StatusLine(TASK, task, item.line, item.repeat, identity.hostname(), NEVER_STARTED, LOST,
                                        now, now, command=written(item.command)))
        self._look_for_removed_at = time.monotonic() + REMOVED_SECONDS

    def _ended(self, end: End) -> None:
        item = self.outstanding.pop(end.task, None)
        if item is None and self._is_recorded(end.task):
            self._ended_again(end)
            return
        if item is None:                    # not reached in the file yet
            self.early[end.task] = end
            return
        outcome = end.record.get("outcome")
        if self.stopped and outcome == outcomes.CANCELLED and end.record.get("pid") is None:
            return                          # it was never started
        self._record(status_line(item, end))

    def _ended_again(self, end: End) -> None:
        """What had failed is done, as a person has put it back: resuming takes the better one of its records."""
        old = failure(self.plan.status_file, end.task) if end.state == layout.DONE else None
        if old is None:
            return
        new = status_line(TaskLine(old.task, old.line, old.repeat, ""), end)
        self._write(replace(new, command=old.command))
        self.failed, self.succeeded = self.failed - 1, self.succeeded + 1

    def _record(self, record: StatusLine) -> None:
        self._write(record)
        self._count(record.kind, record.code)
        if self._mail:
            self._mail.add(record)
        if record.code and self.options.fail_fast and not self.stopped:
            self._give_up(f"task {record.task} has failed, in line {record.line}")

    def _write(self, record: StatusLine) -> None:
        """Only while the post is held: who was given up writes nothing more."""
        if not self.folder.fs.exists(f"{layout.DOING}/{self.runner}"):
            raise SystemExit(f"{self.runner} has been given up")
        patiently(lambda: self.status.write(record), self.log)
        if record.kind != PER_ENGINE:
            self.recorded.add(record.task)
            self._raise_lowest()

    def _count(self, kind: str, code: int) -> None:
        if kind == SKIPPED:
            self.skipped += 1
        if code:
            self.failed += 1
            self.failed_since = True
        elif kind == TASK:
            self.succeeded += 1

    def _give_up(self, why: str) -> None:
        """The first failure ends the batch: what waits is taken back, what runs is ended."""
        self.stopped = f"{why}, and --fail-fast was given"
        self.log(self.stopped)
        fs, ids = self.folder.fs, [self.plan.id_of(task) for task in sorted({*self.outstanding, *self.present})]
        requests.ask(fs, requests.HOLD)                 # of those on other hosts, which have not seen the failure
        try:
            canceller = Canceller(self.folder, ids)
            while canceller.look():
                time.sleep(IDLE_MOST)
        finally:
            requests.withdraw(fs, requests.HOLD)
        fs.unlink(layout.FAIL_FAST)                     # runners look again, find nothing, and leave

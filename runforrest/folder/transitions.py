"""The transitions of a task, each one rename: schedule, claim, commit, release, requeue.

The rename is the commit and the fence: the file server lets exactly one of several through.  After a
rename that failed, the question is never what the error was but whether the destination is there.
"""

from __future__ import annotations

import ctypes  # noqa: F401    forcing needs it, and may come from a finalizer in the middle of its import
import errno
import os
import time
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from runforrest.folder import frames, identity, layout, settings, signing
from runforrest.folder.attempts import DAMAGED, force_attempt, new_tag, side_file, write_attempt
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import Settings
from runforrest.folder.stored import ATTEMPT, StoredTask
from runforrest.model import outcomes
from runforrest.model.names import DEMANDING_LENGTH, TAG_LENGTH, Name, make_id

if TYPE_CHECKING:
    from runforrest.folder.frames import Record

#: what a loser of a race may be told, on one filesystem or another
LOST_RACE = (errno.ENOENT, errno.ESTALE, errno.EPERM)
#: scheduled tasks that may wait to be forced together, and for how long (seconds)
BATCH, BATCH_SECONDS = 1000, 1.0


class TaskFolder:
    """The state machine of one task list on disk."""

    def __init__(self, fs: FileOps, settings: Settings) -> None:
        self.fs, self.settings = fs, settings
        self._last_sequence = 0
        self._second, self._second_text = -1, ""
        self._unforced = 0
        self._unforced_since = 0.0
        self._force_error: OSError | None = None

    # -- schedule ------------------------------------------------------------------------

    def new_id(self, priority: int, label: str, demanding: bool = False) -> str:
        """An id that sorts behind all that this process made before.

        ``demanding``: its envelope says what the task needs.
        """
        micros = max(time.time_ns() // 1000, self._last_sequence + 1)
        self._last_sequence = micros
        second, rest = divmod(micros, 1_000_000)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y%m%dT%H%M%S", time.gmtime(second))
        return make_id(priority, f"{self._second_text}{rest:06d}",
                       new_tag(DEMANDING_LENGTH if demanding else TAG_LENGTH), label)

    def schedule(self, id: str, call: bytes, envelope: dict[str, object], through: str = "",
                 where: str = layout.TODO) -> Name:
        """Publish a task.  When this returns it survives the death of any process; it survives a power
        cut after the next `force`, which comes by itself with every batch (durability ``calls`` on).

        through  a runner by whose folder it goes: if that runner has been given up, nothing more is published, and
                 FileNotFoundError raised.  Who takes over from it can see what it has published.
        where    the folder: another one for a task that waits (see `gates`)
        """
        name = Name(id)
        tmp = f"{layout.TMP}/{id}.{new_tag()}"
        key = self.fs.trust.key
        chunks = frames.encode(key.signed(signing.CALL, id, envelope, call) if key else envelope, call)
        try:
            for last in (False, False, True):
                try:
                    self.fs.create(tmp, chunks)
                    break
                except FileNotFoundError:   # the last runner has just tidied up
                    if last:
                        raise
                    settings.ensure_internal(self.fs)
        except OSError:
            self._drop(tmp)
            raise
        if through:
            self._move_new(tmp, f"{layout.DOING}/{through}/{name}")
            self.move(f"{layout.DOING}/{through}/{name}", f"{layout.TODO}/{name}")
        else:
            self._move_new(tmp, f"{where}/{name}")
        if self.settings.force_calls:
            if not self._unforced:
                self._unforced_since = time.monotonic()
            self._unforced += 1
            if self._unforced >= BATCH or time.monotonic() - self._unforced_since > BATCH_SECONDS:
                try:
                    self.force()
                except OSError as error:    # this task is published: who is told otherwise schedules it twice
                    self._force_error = error
        return name

    def publish_rest(self, runner: str) -> None:
        """Publish what somebody was just publishing `through` this runner, and was ended before it was done."""
        for entry in self.fs.entries(f"{layout.DOING}/{runner}"):
            name = Name.parse(entry)
            if name is not None and not name.tries:
                self.move(f"{layout.DOING}/{runner}/{name}", f"{layout.TODO}/{name}")

    def _move_new(self, tmp: str, destination: str) -> None:
        try:
            self.fs.rename(tmp, destination)
        except OSError:
            if self.fs.exists(tmp):         # nobody else ever renames it; gone means published
                self._drop(tmp)
                raise

    def force(self) -> None:
        """Force what was scheduled so far to disk, in one go.

        Raises OSError if this failed, now or for an earlier batch: the system tells of an error only once.
        """
        failed, self._force_error = self._force_error, None
        if self._unforced:
            self.fs.force_all()
            self._unforced = 0
        if failed is not None:
            raise failed

    def _drop(self, tmp: str) -> None:
        try:
            self.fs.unlink(tmp)
        except OSError:
            pass

    # -- one task and its runner ---------------------------------------------------------

    def claim(self, name: Name, runner: str) -> Name | None:
        """Take a task out of ``todo/``; the name of the claim, or None if it is not to be had now.

        Raises OSError if the folder itself is in trouble.
        """
        mine = name.claimed(new_tag())
        destination = f"{layout.DOING}/{runner}/{mine}"
        try:
            self.fs.rename(f"{layout.TODO}/{name}", destination)
        except OSError as error:
            if not self.fs.exists(destination):      # the fresh tag makes this name mine alone
                if error.errno not in LOST_RACE:
                    raise
                home = f"{layout.DOING}/{runner}"
                if not self.fs.exists(home):         # else an empty-handed runner would think the list done
                    raise FileNotFoundError(errno.ENOENT, "this runner's folder was removed",
                                            self.fs.path(home)) from None
                return None
        return mine

    def force_result(self, name: Name, runner: str, anew: bool = False) -> None:
        """Force the record and the result of an attempt to disk, if the durability asks for it: before `commit`.

        ``anew``: an earlier try failed.  Raises OSError.
        """
        if self.settings.force_results:
            force_attempt(self.fs, f"{layout.DOING}/{runner}/{name}", name, anew)

    def commit(self, name: Name, runner: str, state: str, force: bool = True) -> bool:
        """Publish an ended task into ``done/`` or ``fail/``; False if it was taken over meanwhile.

        ``force``: False if the caller does `force_published`, once for several.
        Raises OSError if the folder is in trouble and the task is still in ``doing/``.
        """
        published = self.move(f"{layout.DOING}/{runner}/{name}", f"{state}/{name}")
        if published and force:
            self.force_published(state)
        return published

    def force_published(self, *states: str) -> None:
        """Force what was moved into these folders (durability ``full``).

        On a filesystem of this machine all of it: Btrfs, told to force the one folder, forgets that the
        file has left the other, and after a power cut it is in both.
        """
        if not self.settings.force_folders:
            return
        if self.local:
            self.fs.force_all()
        else:
            for state in states:
                self.fs.force_folder(state)

    @cached_property
    def local(self) -> bool:
        """Whether the list is on a filesystem of this machine alone."""
        return identity.is_local(self.fs.root)

    def record_end(self, name: Name, runner: str, outcome: str, message: str, cut: int | None = None,
                   beside: bool = False) -> Record:
        """Write how an attempt ended that has no child to do so: killed, or never started; returns the record.

        ``cut``: where the intact part of its file ends; ``beside``: leave the file alone.  Raises as `write_attempt`.
        """
        record: Record = {"frame": ATTEMPT, "attempt": name.attempt, "number": name.tries, "outcome": outcome,
                          "runner": runner, "host": identity.hostname(), "ended": settings.now_text(),
                          "message": message}
        write_attempt(self.fs, f"{layout.DOING}/{runner}/{name}", name, record, cut=cut,
                      beside=beside)
        return record

    def record_unreadable(self, name: Name, runner: str, message: str) -> Record:
        """Write beside a task's file that it can't be read; returns the record.

        Raises OSError if nothing can be written, or the file can be read after all: then it was the whole folder.
        """
        record = self.record_end(name, runner, outcomes.UNLOADABLE, message, beside=True)
        try:
            StoredTask.open(self.fs, f"{layout.DOING}/{runner}/{name}", name)
        except OSError as error:
            if error.errno in DAMAGED:
                return record
        self.fs.unlink(side_file(name))
        raise BlockingIOError(errno.EAGAIN, "it could not be read for a while")

    def release(self, name: Name, runner: str) -> bool:
        """Give a task back to ``todo/``; False if it was taken over.

        The name keeps its try: a name in ``todo/`` must not come back, or a claim that a file server
        repeats late would hit it.  Budgets count the records of ended attempts, so an attempt that was
        released costs nothing.
        """
        return self.move(f"{layout.DOING}/{runner}/{name}", f"{layout.TODO}/{name}")

    def requeue(self, name: Name, state: str) -> bool:
        """What `mv fail/x todo/` does: try the task again, with its history."""
        return self.move(f"{state}/{name}", f"{layout.TODO}/{name}")

    def move(self, source: str, destination: str) -> bool:
        """One rename; True if the task is at its destination, False if it was taken from the source."""
        for last in (False, True):
            try:
                self.fs.rename(source, destination)
                return True
            except OSError as error:
                if self.fs.exists(destination):
                    return True
                if not self.fs.exists(source):
                    return False
                folder = os.path.dirname(destination)
                if last or error.errno != errno.ENOENT or os.path.isdir(self.fs.path(folder)):
                    raise
                try:
                    self.fs.mkdir(folder)           # somebody removed done/ or fail/
                except FileExistsError:
                    pass
        return False

    # -- looking -------------------------------------------------------------------------

    def scan(self, state: str) -> Iterator[Name]:
        """The tasks in ``todo``, ``done`` or ``fail``, as they come."""
        try:
            yield from (name for name in map(Name.parse, self.fs.scan(state, folders=False)) if name is not None)
        except FileNotFoundError:
            return

    def names(self, state: str) -> list[Name]:
        """The same in order of their names, which is that of scheduling, the more urgent first."""
        return sorted(self.scan(state), key=str)

    def claims(self) -> dict[str, list[Name]]:
        """The tasks in ``doing/`` by runner."""
        return {runner: self.claims_of(runner) for runner in self.fs.entries(layout.DOING)}

    def claims_of(self, runner: str) -> list[Name]:
        """The tasks that a runner holds."""
        return [n for n in map(Name.parse, self.fs.entries(f"{layout.DOING}/{runner}")) if n is not None]

    def count(self, state: str) -> int:
        """How many tasks are in ``todo``, ``done`` or ``fail``."""
        return sum(1 for _ in self.scan(state))

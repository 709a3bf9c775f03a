"""The futures that have not ended, and the thread that hears of their ends."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, InvalidStateError
from typing import Any

from runforrest.errors import Cancelled, FolderError, Lost, Stopped, Unloadable
from runforrest.folder import requests
from runforrest.folder.following import Following
from runforrest.folder.leases import Membership
from runforrest.folder.transitions import TaskFolder
from runforrest.futures import lifetime
from runforrest.futures.calls import InitializerFailed
from runforrest.futures.future import Future
from runforrest.futures.own import HowToRun, OwnRunner
from runforrest.futures.places import Search
from runforrest.futures.runner import STARTED
from runforrest.futures.withdrawing import withdraw
from runforrest.model.names import Name
from runforrest.process.wakeup import Wakeup
from runforrest.results import Ending, load_ending

PAUSE_LEAST, PAUSE_MOST = 0.01, 0.5        # between two looks at what others have done
OWN_LOOK_SECONDS = 0.1             # … while there is a runner that tells what it has done itself
FORCE_SECONDS = 1.0
START_SECONDS = 30.0               # for a process to be started
NOBODY_SECONDS = 10.0              # without a runner, until a person is told

log = logging.getLogger("runforrest")


class Watch:
    """What the executors of one list in this program share: its futures, its thread, its runner."""

    def __init__(self, folder: TaskFolder, how: HowToRun) -> None:
        self.folder, self.own = folder, OwnRunner(how)
        self.lock, self.pid = threading.RLock(), os.getpid()
        self.closed = self.leaving = False
        self.broken: BaseException | None = None
        self._ended = threading.Condition(self.lock)
        self._pending: dict[str, Future[Any]] = {}
        self._withdrawing: dict[str, Future[Any]] = {}      # of tasks that are just being taken out of the list
        self._withdrawn: set[str] = set()                   # by a thread that is about to tell their futures
        self._open = 0                              # futures that have not ended, or are just being told
        self._thread: threading.Thread | None = None
        self._running = False
        self._following = Following(folder)
        self._wakeup: Wakeup | None = None
        self._anew = False                          # something was scheduled
        self._looked_after = threading.Event()      # there was a runner for it, or could be none
        self._search = Search(folder)
        self._force_at = 0.0
        self._problem = ""
        self._nobody_since = 0.0                    # by the monotonic clock; infinity: that was said
        lifetime.keep(self)

    # -- for the executor ------------------------------------------------------------------

    def check_mine(self) -> None:
        """Raises RuntimeError in a process that was forked from the one that this belongs to."""
        if self.pid != os.getpid():
            raise RuntimeError("this executor belongs to the process that this one was forked from: make another one")

    def forked(self) -> None:
        """The futures will not be told anything here, and the runner is the parent's."""
        self.lock = threading.RLock()
        self._ended = threading.Condition(self.lock)
        self._pending, self._withdrawing, self._open = {}, {}, 0
        self._thread = self._wakeup = None
        self.own.forked()

    def check_open(self) -> None:
        """Raises what `Executor.submit` does."""
        self.check_mine()
        if self.broken is not None:
            raise self.broken
        if lifetime.is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def add(self, future: Future[Any]) -> None:
        """Tell this one when its task ends."""
        with self.lock:
            self._pending[future.id] = future
            self._open += 1

    def drop(self, future: Future[Any]) -> None:
        """Its task could not be scheduled."""
        with self.lock:
            if self._pending.pop(future.id, None) is not None:
                self._less()

    def known(self, id: str) -> Future[Any] | None:
        return self._pending.get(id) or self._withdrawing.get(id)

    def go(self) -> None:
        """There is something to wait for."""
        with self.lock:
            before, self._anew = self._anew, True
            if not self._running:
                self._wakeup, self._running = Wakeup(), True
                self._thread = threading.Thread(target=self._run, name="runforrest-futures", daemon=True)
                self._thread.start()
            elif not before:
                self._wake()

    def cancel(self, futures: Iterable[Future[Any]] | None = None) -> bool:
        """Take the tasks of these, or of all, out of the list, if they have not been started; whether it was all."""
        wanted = {future.id: future for future in futures or ()}
        with self.lock:
            while wanted.keys() & self._withdrawing.keys():
                self._ended.wait(PAUSE_MOST)        # another thread is at it
            chosen = {id: future for id, future in self._pending.items() if not future.running()} if futures is None \
                else {id: future for id, future in wanted.items() if id in self._pending}
            for id in chosen:
                self._withdrawing[id] = self._pending.pop(id)
        gone: set[str] = set()
        try:
            gone = withdraw(self.folder, list(chosen)) if chosen else set()
        finally:
            with self.lock:
                left = chosen.keys() - gone
                for id, future in chosen.items():
                    del self._withdrawing[id]
                    if id in left:
                        self._pending[id] = future
                self._withdrawn |= gone
                if left:
                    self._following.forget()        # they may have ended meanwhile
                    self._wake()
                self._ended.notify_all()
        for id in gone:
            self._tell(chosen[id], Ending(error=Cancelled("cancelled before it was started again"), withdrawn=True))
            self._withdrawn.discard(id)
        return not left and all(future.cancelled() or id in self._withdrawn for id, future in wanted.items())

    def abort(self) -> None:
        """Cancel all, and ask the runners to end what runs."""
        self.cancel()
        with self.lock:
            running = list(self._pending)
        for id in running:
            requests.ask(self.folder.fs, requests.CANCEL, id)

    def close(self) -> None:
        """Nothing more will be submitted: when all have ended, the thread does, and the runner."""
        if self.pid != os.getpid():
            return
        with self.lock:
            self.closed = True
            self._wake()

    def leave(self) -> None:
        """The program does not wait for what runs, but for the runner to be there."""
        self.leaving = True
        self.close()
        if self._open and self._thread is not threading.current_thread():
            self._looked_after.wait(START_SECONDS)

    def wait(self) -> None:
        """Wait until all have ended; not in a callback, which the thread itself calls."""
        thread = self._thread
        if thread is threading.current_thread() or self.pid != os.getpid():
            return
        try:
            with self.lock:
                while self._open and thread is not None and thread.is_alive():
                    self._ended.wait(PAUSE_MOST)
            if thread is not None:
                thread.join()
        except BaseException:                       # Ctrl-C: nor does the program at its end
            self.leaving = True
            raise

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        pause = PAUSE_LEAST
        try:
            while not self._ends():
                pause = PAUSE_LEAST if self._round() else min(PAUSE_MOST, pause * 1.5)
                if not self._over():
                    self._wait(pause if self._open else None)
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
            self._fail(lambda id: BrokenExecutor(f"nobody hears any more what becomes of task {id}: {problem}"),
                       for_good=True)
            self.own.join()
            raise

    def _ends(self) -> bool:
        """Whether there is nothing left to do: then the runner has left, and whoever has more begins anew."""
        if not self._over():
            return False
        self.own.join()
        with self.lock:
            if self._open:                          # `attach`, just now
                return False
            wakeup, self._wakeup, self._running = self._wakeup, None, False
        if wakeup is not None:
            wakeup.close()
        return True

    def _over(self) -> bool:
        with self.lock:
            return self.closed and not self._open

    def _round(self) -> bool:
        """Whether anything has ended."""
        try:
            for line in self.own.says():
                log.warning("the runner of %s: %s", self.folder.fs.root, line)
            news = self._take_news()
            if self._open:
                self.own.need(news)
                self._looked_after.set()
            if news:
                self.own.wake()
            moved = [self._hear(what, name) for what, name in self.own.told()]
            moved.append(self._look())
            self._look_after_others()
        except OSError as error:                    # the folder is out of reach; what runs does not end by that
            self._say(f"{self.folder.fs.root} is in trouble: {error}")
            return False
        self._problem = ""
        return any(moved)

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem

    def _take_news(self) -> bool:
        with self.lock:
            news, self._anew = self._anew, False
        return news

    def _wait(self, seconds: float | None) -> None:
        """Until the runner tells something, or somebody here."""
        assert self._wakeup is not None
        poll = select.poll()
        for fd in filter(None, (self._wakeup.reader, self.own.fileno())):
            poll.register(fd, select.POLLIN)
        if any(fd == self._wakeup.reader for fd, _ in poll.poll(None if seconds is None else seconds * 1000)):
            self._wakeup.clear()

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()

    # -- what has ended ----------------------------------------------------------------------

    def _hear(self, state: str, file: str) -> bool:
        """From the runner."""
        name = Name.parse(file)
        if name is None:
            return False
        if state != STARTED:
            self.own.ran_something()
            return self.settle(state, name)
        with self.lock:
            future = self._pending.get(name.id) or self._withdrawing.get(name.id)
            if future is not None and not future.running():
                future.set_running_or_notify_cancel()
        return False

    def _look(self) -> bool:
        """At what any runner has done."""
        if not self._open:
            return False
        following = self._following
        heard = [] if self.folder.local else [id for id, _, _ in following.heard() if id in self._pending]
        if heard:
            following.forget()
        elif not following.look_due(OWN_LOOK_SECONDS if self.own.fileno() else PAUSE_LEAST):
            return False
        settled = False
        try:
            for name, state in following.looked(self._is_pending):
                settled = self.settle(state, name) or settled
        except FileNotFoundError:                   # done/ is gone, or all of it
            if not os.path.isdir(self.folder.fs.root):
                root = self.folder.fs.root
                self._fail(lambda id: FolderError(f"{root} was removed before task {id} had ended", directory=root))
        return settled

    def _is_pending(self, file: str) -> bool:
        return file.rpartition(".t")[0] in self._pending or file.removesuffix(".pkl") in self._pending

    def settle(self, state: str, name: Name) -> bool:
        """Tell its future, if it has one that waits; False if not, or if the task goes on.  OSError: not now."""
        with self.lock:
            future = self._pending.pop(name.id, None)
        if future is None:
            return False
        try:
            end = load_ending(self.folder.fs, state, name)
        except OSError as error:
            with self.lock:
                self._pending[name.id] = future
            if isinstance(error, FileNotFoundError):        # put back by a person: it goes on
                return False
            raise
        except BaseException as error:              # SystemExit, out of what was unpickled
            end = Ending(error=Unloadable(f"the result can't be unpickled here: {type(error).__name__}: {error}"))
        self._tell(future, end)
        if isinstance(end.error, InitializerFailed):
            self._initializer_failed(end.error)
        return True

    def _tell(self, future: Future[Any], end: Ending) -> None:
        try:
            if end.withdrawn and not future.running():
                future.cancelled_at_last()
            elif isinstance(end.error, InitializerFailed):
                future.set_exception(_broken(end.error))
            elif end.error is not None:
                future.set_exception(end.error)
            else:
                future.set_result(end.value)
        except InvalidStateError:                   # somebody else has told it something
            pass
        except BaseException:                       # as the library does with an Exception: others wait, too
            log.exception("a callback of the future of task %s has failed", future.id)
        with self.lock:
            self._less()

    def _less(self) -> None:
        self._open -= 1
        if not self._open:
            self._ended.notify_all()
            self._wake()

    # -- when they don't end -------------------------------------------------------------------

    def _initializer_failed(self, error: InitializerFailed) -> None:
        """As with the executors of the standard library: no call is of any use then."""
        logging.getLogger("concurrent.futures").critical("Exception in initializer: %s%s", error, error.__cause__ or "")
        withdraw(self.folder, self._fail(lambda id: _broken(error), for_good=True))

    def _fail(self, why: Callable[[str], BaseException], ids: Iterable[str] | None = None,
              for_good: bool = False) -> list[str]:
        """These, or all, will not be heard of any more; their ids."""
        with self.lock:
            if for_good and self.broken is None:
                self.broken = why("")
            chosen = [self._pending.pop(id) for id in (list(self._pending) if ids is None else ids)
                      if id in self._pending]
        for future in chosen:
            self._tell(future, Ending(error=why(future.id)))
        return [future.id for future in chosen]

    def _look_after_others(self) -> None:
        """Now and then: whether anybody is left who could run them, and whether they are there."""
        now = time.monotonic()
        if now >= self._force_at:
            self._force_at = now + FORCE_SECONDS
            self.force()
        if not self._open or not self._search.is_due():
            return
        self._no_runner_left()
        self._fail_removed()
        self._following.forget()                    # whatever was missed is found now

    def force(self) -> None:
        """What was scheduled survives a power cut then, if the list's durability says so."""
        if self.pid != os.getpid():
            return
        with self.lock:
            try:
                self.folder.force()
            except OSError as error:
                log.warning("what was scheduled could not be forced to disk: %s", error)

    def _no_runner_left(self) -> None:
        own, root = self.own, self.folder.fs.root
        if (own.how.slots and not (own.stopped or own.failed)) or Membership(self.folder).alive():
            return
        if not own.how.slots:
            self._say_that_nobody_is_here()
        elif own.stopped:
            self._fail(lambda id: Stopped(f"{own.stopped}, and no other is at work: task {id} waits in {root}, and "
                                          f"`runforrest run {root}` goes on", reason="stopped"))
        else:
            self._fail(lambda id: BrokenExecutor(f"no runner is at work on {root}, where task {id} waits: "
                                                 f"{own.failed}"))

    def _say_that_nobody_is_here(self) -> None:
        """Once: others are to run the list, and may come later; but the program may wait, at its end, say, for ever."""
        now, root = time.monotonic(), self.folder.fs.root
        self._nobody_since = self._nobody_since or now
        if now - self._nobody_since >= NOBODY_SECONDS:
            self._nobody_since = float("inf")
            log.warning("no runner is at work on %s, and %d tasks are waited for: `runforrest run %s` runs them", root,
                        self._open, root)

    def _fail_removed(self) -> None:
        with self.lock:
            pending = list(self._pending)
        root = self.folder.fs.root
        self._fail(lambda id: Lost(f"task {id} is not in {root} any more: it was removed before it had ended"),
                   self._search.removed(pending))


def _broken(error: InitializerFailed) -> BrokenExecutor:
    broken = BrokenExecutor(f"the initializer has failed: {error}")
    broken.__cause__ = error.__cause__
    return broken

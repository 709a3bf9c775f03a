"""The guard of one slot: forks a child per task, watches it, and leaves nothing of it behind.

A guard is a child subreaper with at most one task at a time, so whatever the task starts, daemons too,
is below the guard and can be found and killed.  It does no more than that: what to run and where a task
goes is the runner's.  Orders come in on one pipe, reports go out on another.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial

from runforrest.folder import attempts, layout
from runforrest.folder.fsio import FileOps
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.child import RETRY_SECONDS, Child, become_child, flush_output
from runforrest.process.claimed import Claimed, fault, report_line
from runforrest.process.execution import keep_from_commands, spawn
from runforrest.process.leash import Leash
from runforrest.process.output import Output
from runforrest.process.page import Page
from runforrest.process.postmortem import PostMortem
from runforrest.process.reuse import serve_many, task_of
from runforrest.process.supervisor import RELEASED, Ended, supervise, sweep
from runforrest.process.surroundings import Surroundings
from runforrest.process.waiting import PASSED_ON, RunnerGone, Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.process.config import Config
    from runforrest.process.surroundings import Grant

RELEASE_SECONDS = 2.0               # patience with a runner that got the same signal as its tasks


class Guard:
    """The process of one slot.

    orders, reports   the pipes from and to the runner
    work              the pipe from which a child that is reused reads its tasks itself
    alive             the pipe that the fork server keeps open
    deaths            how many guards of this slot were killed before
    """

    def __init__(self, config: Config, slot: int, orders: int, reports: int, work: int, alive: int,
                 deaths: int = 0) -> None:
        self.config, self.server, self.deaths = config, os.getppid(), deaths
        self.reports, self.work = reports, work
        self.fs = FileOps(config.root, trust=config.trust)
        self.fs.awaited = True
        self.output = Output(self.fs, config.runner, slot)
        self.errors = Output(self.fs, config.runner, slot, layout.ERRORS_LOG, ())
        self.surroundings = Surroundings(config, slot)
        self.page = Page()
        self.waiter = Waiter(orders, alive, signals=config.isolation == "reuse")
        self.post_mortem = PostMortem(config, self.fs, self.output, self.errors, self.waiter)
        self.child = Child(config, self.fs, self.output, self.page)     # made here once, used in each fork
        keep_from_commands()
        self.leash = Leash()
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) - set(PASSED_ON)    # in commands

    def serve(self) -> None:
        """Run until the runner, or the fork server, is gone."""
        system.become_subreaper()
        try:
            self._open_output()
            self.report(report_line({"ready": os.getpid()}))
            if self.config.isolation == "reuse":
                while True:
                    self._reused_child()
            else:
                while True:
                    for order in self.waiter.wait(None):
                        path, grant = task_of(order, self.deaths)
                        if path:
                            self._fresh_child(path.decode(), grant)
        except RunnerGone:
            if os.getppid() == self.server:
                system.send(self.server, signal.SIGCONT)    # if it is stopped, it must end all the same
            system.kill_tree()
            sweep()

    def _open_output(self) -> None:
        """Or wait for a folder in trouble, of which the runner learns by itself.  Raises RunnerGone."""
        while True:
            try:
                self.output.open()
                return
            except OSError as error:
                if error.errno not in attempts.WAITED_OUT:
                    raise
            self.waiter.wait(RETRY_SECONDS)         # nothing is asked of a guard that is not ready

    def report(self, line: bytes) -> None:
        """A line of JSON for the runner; short enough (below PIPE_BUF) to go out whole."""
        os.write(self.reports, line)

    def _fresh_child(self, path: str, grant: Grant) -> None:
        """Run one task in a child of its own."""
        name = _name_of(path)
        self.page.reset()
        try:
            claimed = Claimed(self.fs, path, name, self.config)
            if claimed.command and self.errors.fd < 0:
                self.errors.open()
        except OSError as error:
            self.report(fault(name, path, error))
            return
        if claimed.task.envelope.get("serializer") == "dill" and "dill" not in sys.modules:
            import dill  # noqa: F401    once here, not in each child
        claimed.enter(self.surroundings, grant)
        begun = time.monotonic()
        self.page.state = pages.LOADING
        claimed.enforce(self.page)
        child = self._spawn(claimed) or self._fork(claimed)
        self.leash.put_on(child)
        ended = supervise(child, self.page, self.waiter, path.encode, partial(self._result_waits, path))
        self._settle(path, name, begun, ended, claimed if claimed.command and not claimed.problem else None)

    def _spawn(self, claimed: Claimed) -> int:
        """Start its command; returns the pid, or 0 if it has none, or can't be run."""
        if claimed.problem or not claimed.command:
            return 0
        try:
            return spawn(claimed.command, self.errors.fd, self.blocked)
        except OSError as error:
            claimed.problem = error
            return 0

    def _fork(self, claimed: Claimed) -> int:
        guard = os.getpid()
        child = os.fork()
        if child:
            return child
        try:
            become_child(guard, self.waiter.handled, keep=self.leash.held)
            self.child.attempt(claimed)
            os._exit(0)
        except attempts.TakenOver:
            os._exit(0)
        except BaseException:
            print_error()
            flush_output()
        finally:
            os._exit(1)

    def _reused_child(self) -> None:
        """Have one child run tasks until it ends."""
        self.page.reset()
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                become_child(guard, self.waiter.handled, keep=(self.work, self.reports, *self.leash.held))
                serve_many(self.child, self.surroundings, self.work, self.reports, guard, self.deaths)
                os._exit(0)
            except BaseException:
                print_error()
                flush_output()
            finally:
                os._exit(1)
        self.leash.put_on(child)
        begun = time.monotonic()
        ended = supervise(child, self.page, self.waiter, self.page.current,
                          lambda code: self._result_waits(self.page.current().decode(), code))
        with suppress(OSError):             # a folder in trouble has the old one
            self.output.open()              # which the child may have given away to a task
        if self.page.state == pages.LEFT and not ended.reason:
            self._fresh_child(self.page.current().decode(), json.loads(self.page.report()))
        elif self.page.state != pages.IDLE:
            path = self.page.current().decode()
            self._settle(path, _name_of(path), begun, ended)
        elif ended.reason == RELEASED:
            self._give_back_work()

    def _give_back_work(self) -> None:
        """The child was ended before it could begin what it was given: the runner knows what that was."""
        os.set_blocking(self.work, False)
        try:
            os.read(self.work, 65536)
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self.work, True)
        self.report(report_line({"emptied": True}))

    def _settle(self, path: str, name: Name, begun: float, ended: Ended, command: Claimed | None = None) -> None:
        """Report the child's own word, or write the record that it could not write any more, or that a command can't.
        """
        if self.page.state == pages.COMPLETE:
            line = self.page.report()
        elif ended.reason == RELEASED or self._meant_for_all(ended):
            line = report_line({"name": str(name), "released": True})
        else:
            line = self.post_mortem.write(path, name, begun, ended, command)
        for output in (self.output, self.errors):
            if output.fd >= 0 and output.size():
                returned = json.loads(line).get("outcome") == outcomes.RETURNED
                output.clear(name, layout.DONE if returned else layout.FAIL)
        self.report(line)

    def _meant_for_all(self, ended: Ended) -> bool:
        """Whether the child died of a signal that its batch system sent to the whole job: the runner, which
        got it as well, is about to take the task back, uncounted.
        """
        signum = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else 0
        if ended.reason or self.page.state == pages.IDLE or not (
                signum in PASSED_ON or signal.sigpending() & set(PASSED_ON)):
            return False
        deadline = time.monotonic() + RELEASE_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if any(order.startswith(b"release") for order in self.waiter.wait(left)):
                return True
        for pending in signal.sigpending() & set(PASSED_ON):
            signal.sigwait({pending})       # it was for this process alone: forgotten
        return False

    def _result_waits(self, path: str, code: int) -> None:
        self.report(report_line({"name": str(_name_of(path)), "waits": f"{os.strerror(code)}: {path}"}))


def _name_of(path: str) -> Name:
    name = Name.parse(path.rpartition("/")[2])
    assert name is not None
    return name


def print_error() -> None:
    """Into the slot's output, so that it ends up in the attempt's record."""
    import traceback
    traceback.print_exc()

"""The guard of one slot: forks a child per task, watches it, and leaves nothing of it behind.

A guard is a child subreaper with at most one task at a time, so whatever the task starts, daemons too,
is below the guard and can be found and killed.  It does no more than that: what to run and where a task
goes is the runner's.  Orders come in on one pipe, reports go out on another, both a line of JSON each.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time

from runforrest.folder import attempts, layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.model import outcomes
from runforrest.model.ladder import KILL, TERM, Ladder
from runforrest.model.limits import GRACE, Limits
from runforrest.model.names import Name
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.child import RETRY_SECONDS, Child, become_child, flush_output, iso
from runforrest.process.claimed import Claimed, fault, report_header, report_line
from runforrest.process.output import Output
from runforrest.process.page import Page
from runforrest.process.reuse import serve_many
from runforrest.process.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.process.config import Config

MEMORY_SECONDS = 0.05               # between two looks at the memory of a task that has a limit
RELEASED = "released"               # why a child was ended: its task goes back uncounted
RUNNER_GONE = "runner gone"
EXIT_GONE = 3


class RunnerGone(Exception):
    """The runner, or the fork server, is no more."""


class Guard:
    """The process of one slot.

    orders, reports   the pipes from and to the runner
    work              the pipe from which a child that is reused reads its tasks itself
    """

    def __init__(self, config: Config, slot: int, orders: int, reports: int, work: int) -> None:
        self.config, self.slot = config, slot
        self.orders, self.reports, self.work = orders, reports, work
        self.fs = FileOps(config.root)
        self.output = Output(self.fs, config.runner, slot)
        self.surroundings = Surroundings(config)
        self.page = Page()
        self.parent = os.getppid()
        self.doomed = False
        self.oom_kills = system.oom_kills()
        self._lines = _Lines(orders)

    def serve(self) -> int:
        """Run until the runner closes the orders; returns the exit code."""
        system.become_subreaper()
        self._set_signals()
        self.output.open()
        self.report(report_line({"ready": os.getpid()}))
        try:
            if self.config.isolation == "reuse":
                while True:
                    self._reused_child()
            else:
                while True:
                    self._fresh_child(self._next_order())
        except RunnerGone:
            system.kill_tree()
            self._sweep()
            return EXIT_GONE if self.doomed else 0

    def report(self, line: bytes) -> None:
        """A line of JSON for the runner; short enough (below PIPE_BUF) to go out whole."""
        os.write(self.reports, line)

    def _set_signals(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.wakeup = reader
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGUSR1, _nothing)         # the child has set its deadline
        signal.signal(signal.SIGTERM, self._server_died)
        system.die_with_parent(self.parent, signal.SIGTERM)
        self.poller = select.poll()
        self.poller.register(self.wakeup, select.POLLIN)
        self.poller.register(self.orders, select.POLLIN)

    def _server_died(self, signum: int, frame: object) -> None:
        self.doomed = True

    # -- orders --------------------------------------------------------------------------

    def _next_order(self) -> dict[str, Any]:
        """The next task to run; waits for it."""
        while True:
            for order in self._wait(None):
                if order["do"] == "run":
                    return order

    def _wait(self, seconds: float | None) -> list[dict[str, Any]]:
        """Orders that have come in, after at most this long; [] when something else happened."""
        if self.doomed:
            raise RunnerGone
        orders: list[dict[str, Any]] = []
        for fd, _ in self.poller.poll(None if seconds is None else max(1, int(seconds * 1000 + 0.999))):
            if fd == self.wakeup:
                try:
                    os.read(self.wakeup, 4096)
                except BlockingIOError:
                    pass
            else:
                found = self._lines.read()
                if found is None:
                    raise RunnerGone
                orders += found
        if self.doomed:
            raise RunnerGone
        return orders

    # -- a fresh child for each task -----------------------------------------------------

    def _fresh_child(self, order: dict[str, Any]) -> None:
        path = order["path"]
        name = _name_of(path)
        self.page.reset()
        try:
            claimed = Claimed(self.fs, path, name, self.config.limits)
        except OSError as error:
            self.report(fault(name, path, error))
            return
        if claimed.task.envelope.get("serializer") == "dill" and "dill" not in sys.modules:
            import dill  # noqa: F401    once here, not in each child
        claimed.enter(self.surroundings)
        begun = time.monotonic()
        self.page.state = pages.LOADING
        claimed.enforce(self.page)
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            self._in_fresh_child(guard, claimed)
        status, usage, reason = self._supervise(child)
        self._settle(path, name, begun, status, usage, reason)

    def _in_fresh_child(self, guard: int, claimed: Claimed) -> None:
        code = 1
        try:
            become_child(guard)
            Child(self.config, self.fs, self.output, self.page).attempt(claimed)
            code = 0
        except attempts.TakenOver:
            code = 0
        except BaseException:
            print_error()
            flush_output()
        finally:
            os._exit(code)

    # -- a child that runs many ----------------------------------------------------------

    def _reused_child(self) -> None:
        self.page.reset()
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                become_child(guard, keep=(self.work, self.reports))
                serve_many(Child(self.config, self.fs, self.output, self.page), self.surroundings,
                           self.work, self.reports, guard)
                code = 0
            except BaseException:
                print_error()
                flush_output()
            finally:
                os._exit(code)
        begun = time.monotonic()
        status, usage, reason = self._supervise(child)
        if self.page.state != pages.IDLE:
            path = json.loads(self.page.current())["path"]
            self._settle(path, _name_of(path), begun, status, usage, reason)

    # -- watching ------------------------------------------------------------------------

    def _supervise(self, child: int) -> tuple[int, resource.struct_rusage, str]:
        """Wait for the child to end, or see to it; then end whatever it left behind.

        Returns its status and usage, and why it was ended, if it was.
        """
        ladder = Ladder(None, GRACE)
        while True:
            found = self._reap(child)
            if found is not None:
                break
            wait = self._step(child, ladder)
            try:
                for order in self._wait(wait):
                    self._end_on(order, ladder)
            except RunnerGone:
                system.kill_tree(child)
                raise
        self._sweep()
        return (*found, ladder.reason)

    def _step(self, child: int, ladder: Ladder) -> float | None:
        """Enforce the limits that stand on the page; returns the seconds until the next look."""
        now = time.monotonic()
        deadline, ladder.grace, memory = self.page.limits()
        if self.page.state >= pages.WRITING:            # it has its result: no limit while it writes
            deadline = memory = None
        ladder.deadline = deadline
        watched = memory is not None and not ladder.reason
        if memory is not None and watched and self._memory_of(child) > memory:
            ladder.end(outcomes.OUT_OF_MEMORY, now, 0.0)
        step = ladder.due(now)
        if step == TERM:
            system.terminate_tree(child)
        elif step == KILL:
            system.kill_tree(child)
        wait = ladder.wait(time.monotonic())
        return min(MEMORY_SECONDS, wait or MEMORY_SECONDS) if watched else wait

    def _end_on(self, order: dict[str, Any], ladder: Ladder) -> None:
        if order["do"] == "release":
            ladder.end(RELEASED, time.monotonic(), order["grace"])
        elif order["do"] == "cancel":
            ladder.end(outcomes.CANCELLED, time.monotonic(), order.get("grace"))

    def _memory_of(self, child: int) -> int:
        return system.memory_of([child, *system.descendants(child)])

    def _reap(self, child: int) -> tuple[int, resource.struct_rusage] | None:
        """(status, usage) of the child if it has ended; reaps its orphans on the way."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return 0, resource.getrusage(resource.RUSAGE_CHILDREN)     # can't be: nobody else waits
            if pid == child:
                return status, usage
            if pid == 0:
                return None

    def _sweep(self) -> None:
        """KILL and reap until nothing is left below this process; one call when there is nothing."""
        while True:
            try:
                pid = os.waitpid(-1, os.WNOHANG)[0]
            except ChildProcessError:
                return
            if not pid:
                system.kill_tree()
                poller = select.poll()
                poller.register(self.wakeup, select.POLLIN)
                if poller.poll(100):
                    try:
                        os.read(self.wakeup, 4096)
                    except BlockingIOError:
                        pass

    # -- how it ended --------------------------------------------------------------------

    def _settle(self, path: str, name: Name, begun: float, status: int, usage: resource.struct_rusage,
                reason: str) -> None:
        """Report the child's own word, or write the record that it could not write any more."""
        state = layout.FAIL
        if self.page.state == pages.COMPLETE:
            line = self.page.report()
            if self.output.size() and json.loads(line)["outcome"] == outcomes.RETURNED:
                state = layout.DONE
        elif reason == RELEASED:
            line = report_line({"name": str(name), "released": True})
        else:
            line = self._post_mortem(path, name, begun, status, usage, reason)
        self.output.clear(name, state)
        self.report(line)

    def _post_mortem(self, path: str, name: Name, begun: float, status: int, usage: resource.struct_rusage,
                     reason: str) -> bytes:
        """Write the record of an attempt that ended without a word; returns the report."""
        try:
            fd = self.fs.open_read(path)
            try:
                task = StoredTask.read(fd, name)
            finally:
                os.close(fd)
        except OSError as error:
            return fault(name, path, error)
        written = task.result()
        if written is not None:         # killed between its frame and its word to us
            task.attempts.remove(written)
            short = {k: v for k, v in written.items() if k not in ("message", "traceback", "output")}
            return report_header(task) + report_line(short)[1:]
        record = self._record(name, begun, status, usage, reason)
        words: dict[str, Any] = {"message": self._explain(record, task)}
        words.update(self.output.collect())
        log = self.output.log_name(name, layout.FAIL)
        if log:
            record["log"] = log
        while True:
            try:
                attempts.write_attempt(self.fs, path, name, {**record, **words}, b"", self.config.force, cut=task.end)
                return report_header(task) + report_line(record)[1:]
            except attempts.TakenOver:
                return report_line({"name": str(name), "gone": True})
            except OSError as error:
                if error.errno not in attempts.PASSING:
                    return fault(name, path, error)
                self._wait(RETRY_SECONDS)

    def _record(self, name: Name, begun: float, status: int, usage: resource.struct_rusage,
                reason: str) -> dict[str, Any]:
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        duration = time.monotonic() - begun
        return {"frame": "attempt", "attempt": name.attempt, "number": name.tries,
                "outcome": reason or self._why(signum), "runner": self.config.runner, "host": self.config.host,
                "started": iso(time.time() - duration), "ended": iso(time.time()), "duration": duration,
                "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                "signal": _signal_name(signum), "cpu": usage.ru_utime + usage.ru_stime,
                "peak_bytes": usage.ru_maxrss * (1024 if system.LINUX else 1)}

    def _explain(self, record: dict[str, Any], task: StoredTask) -> str:
        limits = Limits.from_json(task.envelope.get("limits")).or_else(self.config.limits)
        outcome = record["outcome"]
        if outcome == outcomes.TIMED_OUT:
            return f"ran longer than its timeout of {limits.timeout:g} s and was killed"
        if outcome == outcomes.OUT_OF_MEMORY and limits.memory is not None:
            return f"held more memory than its limit of {limits.memory} bytes and was killed"
        if outcome == outcomes.OUT_OF_MEMORY:
            return "killed by the system, which had run out of memory"
        if outcome == outcomes.CANCELLED:
            return "cancelled"
        if record["signal"] is not None:
            return f"killed by {record['signal']}; the end of its output may say more"
        return f"its process ended with exit code {record['exit_code']} before it returned"

    def _why(self, signum: int | None) -> str:
        """crashed, or out_of_memory if the kernel has killed a process for memory meanwhile."""
        if signum == signal.SIGKILL:
            before, self.oom_kills = self.oom_kills, system.oom_kills()
            if self.oom_kills > before:
                return outcomes.OUT_OF_MEMORY
        return outcomes.CRASHED


def _signal_name(signum: int | None) -> str | None:
    try:
        return None if signum is None else signal.Signals(signum).name
    except ValueError:                  # a real-time signal
        return f"signal {signum}"


def _name_of(path: str) -> Name:
    name = Name.parse(path.rpartition("/")[2])
    assert name is not None
    return name


def print_error() -> None:
    """Into the slot's output, so that it ends up in the attempt's record."""
    import traceback
    traceback.print_exc()


def _nothing(signum: int, frame: object) -> None:
    pass


class _Lines:
    """Lines of JSON out of a pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def read(self) -> list[dict[str, Any]] | None:
        """What has come in (it has been polled); None at the end of the file."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

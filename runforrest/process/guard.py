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

from runforrest.folder import attempts
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.model import outcomes
from runforrest.model.ladder import KILL, TERM, Ladder
from runforrest.model.limits import GRACE, Limits
from runforrest.model.names import Name
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.child import Child, become_child, flush_output
from runforrest.process.output import Output
from runforrest.process.page import Page

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
        self.page = Page()
        self.parent = os.getppid()
        self.doomed = False
        self.oom_kills = system.oom_kills()
        self._lines = _Lines(orders)
        self._pending: list[dict[str, Any]] = []

    def serve(self) -> int:
        """Run until the runner closes the orders; returns the exit code."""
        system.become_subreaper()
        self._set_signals()
        self.output.open()
        self.report({"ready": os.getpid()})
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

    def report(self, message: dict[str, Any]) -> None:
        os.write(self.reports, json.dumps(message, separators=(",", ":")).encode() + b"\n")

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
            task, call, problem = load(self.fs, path, name)
        except OSError as error:
            self.report({"name": str(name), "fault": f"{error.strerror or error}: {path}",
                         "gone": isinstance(error, FileNotFoundError)})
            return
        if task.envelope.get("serializer") == "dill" and "dill" not in sys.modules:
            import dill  # noqa: F401    once here, not in each child
        limits = Limits.from_json(task.envelope.get("limits")).or_else(self.config.limits)
        now = time.monotonic()
        self.page.state = pages.LOADING
        enforce(self.page, limits)
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            self._in_fresh_child(guard, path, task, call, problem)
        status, usage, ladder = self._supervise(child)
        self._settle(path, name, now, status, usage, ladder)

    def _in_fresh_child(self, guard: int, path: str, task: StoredTask, call: bytes | None, problem: str) -> None:
        code = 1
        try:
            become_child(guard)
            Child(self.config, self.fs, self.output, self.page).attempt(path, task, call, problem)
            code = 0
        except attempts.TakenOver:
            code = 0
        except BaseException:
            _print_error()
        finally:
            flush_output()
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
                from runforrest.process.reuse import serve_many
                serve_many(self.config, self.fs, self.output, self.page, self.work, self.reports, guard)
                code = 0
            except BaseException:
                _print_error()
            finally:
                flush_output()
                os._exit(code)
        now = time.monotonic()
        status, usage, ladder = self._supervise(child)
        if self.page.state != pages.IDLE:
            path = self.page.current()["path"]
            self._settle(path, _name_of(path), now, status, usage, ladder)

    # -- watching ------------------------------------------------------------------------

    def _supervise(self, child: int) -> tuple[int, resource.struct_rusage, Ladder]:
        """Wait for the child to end, or see to it; then end whatever it left behind."""
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
        return (*found, ladder)

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
                ladder: Ladder) -> None:
        """Report the child's own word, or write the record that it could not write any more."""
        if self.page.state == pages.COMPLETE:
            report = self.page.summary()
        else:
            if ladder.reason == RELEASED:
                self.output.clear(name, "fail")
                self.report({"name": str(name), "released": True})
                return
            report = self._post_mortem(path, name, begun, status, usage, ladder.reason)
        peak = usage.ru_maxrss * (1024 if system.LINUX else 1)
        report["peak_bytes"] = max(report.get("peak_bytes") or 0, peak)
        self.output.clear(name, "done" if report.get("outcome") == outcomes.RETURNED else "fail")
        self.report({"name": str(name), **report})

    def _post_mortem(self, path: str, name: Name, begun: float, status: int, usage: resource.struct_rusage,
                     reason: str) -> dict[str, Any]:
        """The record of an attempt that ended without a word, written into the task's file."""
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        try:
            fd = self.fs.open_read(path)
            try:
                task = StoredTask.read(fd, name)
            finally:
                os.close(fd)
        except OSError as error:
            return {"fault": f"{error.strerror or error}: {path}", "gone": isinstance(error, FileNotFoundError)}
        written = task.result()
        if written is not None:         # killed between its frame and its word to us
            return {**{k: v for k, v in written.items() if k not in ("traceback", "output", "frame")},
                    "counts": task.counts(), "limits": task.envelope.get("limits") or {}}
        outcome = reason or self._why(signum)
        duration = time.monotonic() - begun
        record: dict[str, Any] = {
            "frame": "attempt", "attempt": name.attempt, "number": name.tries, "outcome": outcome,
            "runner": self.config.runner, "host": self.config.host,
            "started": _iso(time.time() - duration), "ended": _iso(time.time()), "duration": duration,
            "exit_code": code, "signal": signal.Signals(signum).name if signum in _SIGNALS else signum,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * (1024 if system.LINUX else 1),
            "message": _explain(outcome, signum, code, task, self.config.limits)}
        record.update(self.output.collect())
        log = self.output.log_name(name, "fail")
        if log:
            record["log"] = log
        while True:
            try:
                attempts.write_attempt(self.fs, path, name, record, b"", self.config.force, cut=task.end)
                break
            except attempts.TakenOver:
                return {"gone": True}
            except OSError as error:
                if error.errno not in attempts.PASSING:
                    return {"fault": f"{error.strerror or error}: {path}"}
                self._wait(1.0)
        counts = task.counts()
        counts[outcome] = counts.get(outcome, 0) + 1
        return {**{k: v for k, v in record.items() if k not in ("traceback", "output", "frame")},
                "counts": counts, "limits": task.envelope.get("limits") or {}}

    def _why(self, signum: int | None) -> str:
        """crashed, or out_of_memory if the kernel has killed a process for memory meanwhile."""
        if signum == signal.SIGKILL:
            before, self.oom_kills = self.oom_kills, system.oom_kills()
            if self.oom_kills > before:
                return outcomes.OUT_OF_MEMORY
        return outcomes.CRASHED


_SIGNALS = {s.value for s in signal.Signals}


def load(fs: FileOps, path: str, name: Name) -> tuple[StoredTask, bytes | None, str]:
    """(task, call, problem): the call is None, and the problem says why, if the file can't be a task.

    Raises OSError where the file may well be good but can't be read now.
    """
    try:
        fd = fs.open_read(path)
    except OSError as error:
        if error.errno in attempts.NOT_APPENDABLE:
            return StoredTask(name, [], 0), None, f"the file can't be opened: {error.strerror}"
        raise
    try:
        try:
            task = StoredTask.read(fd, name)
            return task, task.call(fd), ""
        except ValueError as error:
            return task, None, f"{error}: schedule the task again"
        except IsADirectoryError:
            return StoredTask(name, [], 0), None, "it is a folder, not a file"
    finally:
        os.close(fd)


def enforce(page: Page, limits: Limits) -> None:
    """Put the limits of an attempt that starts now onto the page."""
    page.limit(None if limits.timeout is None else time.monotonic() + limits.timeout,
               GRACE if limits.grace is None else limits.grace, limits.memory)


def _explain(outcome: str, signum: int | None, code: int | None, task: StoredTask, defaults: Limits) -> str:
    limits = Limits.from_json(task.envelope.get("limits")).or_else(defaults)
    if outcome == outcomes.TIMED_OUT:
        return f"ran longer than its timeout of {limits.timeout:g} s and was killed"
    if outcome == outcomes.CANCELLED:
        return "cancelled"
    if outcome == outcomes.OUT_OF_MEMORY:
        if limits.memory is not None:
            return f"held more memory than its limit of {limits.memory} bytes and was killed"
        return "killed by the system, which had run out of memory"
    if signum is not None:
        name = signal.Signals(signum).name if signum in _SIGNALS else f"signal {signum}"
        return f"killed by {name}; the end of its output may say more"
    return f"its process ended with exit code {code} before it returned"


def _name_of(path: str) -> Name:
    name = Name.parse(path.rpartition("/")[2])
    assert name is not None
    return name


def _print_error() -> None:
    """Into the slot's output, so that it ends up in the attempt's record."""
    import traceback
    traceback.print_exc()


def _nothing(signum: int, frame: object) -> None:
    pass


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


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

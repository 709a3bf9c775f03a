"""The runner's end of the process tree: starts the fork server, gives orders, reads reports."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from runforrest.errors import ProcessError
from runforrest.process import system
from runforrest.process.config import Config
from runforrest.process.rank import without_rank
from runforrest.process.waiting import MOST_SECONDS
from runforrest.process.wakeup import Wakeup

#: the path comes first, so that nothing is imported from the folder in which the runner happens to be
BOOT = ("import sys; text, *sys.path[:] = sys.argv[1:]; sys.argv[:] = ['runforrest'];"
        "from runforrest.process.server import main; main(text)")
CLOSE_SECONDS = 10.0
MOST_STILLBORN = 10                 # guards of a slot, one after the other, that die before they are ready
Message = dict[str, Any]


def interpreter() -> list[str]:
    """This Python with the options that it was started with, ``-O`` for one: as multiprocessing starts its own."""
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]


class Pool:
    """The slots of one runner.  `poll` waits for reports of any slot, and for the wakeup."""

    def __init__(self, config: Config, slots: int, wakeup: Wakeup) -> None:
        self.config, self.slots, self.wakeup = config, slots, wakeup
        self.server: subprocess.Popen[bytes] | None = None
        self._orders: list[int] = []
        self._work: list[int] = []
        self._controls: list[int] = []      # the one, if there is one
        self._rests: dict[int, bytes] = {}
        self._slot_of: dict[int, int] = {}
        self._lock = threading.Lock()
        self._deaths = [0] * slots
        self._stillborn = [0] * slots
        self._guards: dict[int, int] = {}   # their pids, by slot

    def start(self) -> int:
        """Start the fork server; returns its pid.  Raises ProcessError if it does not come up."""
        theirs: list[dict[str, int]] = []
        for slot in range(self.slots):
            orders, work, reports = os.pipe(), os.pipe(), os.pipe()
            theirs.append({"orders": orders[0], "work": work[0], "reports": reports[1]})
            self._orders.append(orders[1])
            self._work.append(work[1])
            self._slot_of[reports[0]] = slot
            self._rests[reports[0]] = b""
        control, end = os.pipe()
        self._controls.append(end)
        ready, theirs_ready = os.pipe()
        text = json.dumps({"config": self.config.dumps(), "pipes": theirs, "control": control,
                           "ready": theirs_ready, "runner": os.getpid()})
        given = [fd for each in theirs for fd in each.values()] + [control, theirs_ready]
        try:
            self.server = subprocess.Popen([*interpreter(), "-c", BOOT, text, *self.config.path],
                                           stdin=subprocess.DEVNULL, pass_fds=given, start_new_session=True,
                                           env=without_rank(os.environ))
        except OSError as error:
            raise ProcessError(f"the fork server could not be started with {sys.executable}: {error}") from error
        finally:
            for fd in given:
                os.close(fd)
        self._poller = select.poll()
        self._poller.register(self.wakeup.reader, select.POLLIN)
        for fd in self._slot_of:
            self._poller.register(fd, select.POLLIN)
        return self._hello(ready)

    def _hello(self, ready: int) -> int:
        with os.fdopen(ready, "rb") as file:
            line = file.readline()
        answer = json.loads(line) if line else {"error": "it ended at once; its message is above"}
        if "error" in answer:
            self.close()
            raise ProcessError(f"the fork server did not start: {answer['error']}")
        return int(answer["pid"])

    # -- orders --------------------------------------------------------------------------

    def run(self, slot: int, path: str, cpus: Sequence[int] = (), env: Mapping[str, str] | None = None) -> None:
        """Have this slot run the claimed task in this file; on these CPUs, with these variables."""
        grant = "\t" + json.dumps([list(cpus), dict(env or {})]) if cpus or env else ""
        self._send(self._work if self.config.isolation == "reuse" else self._orders, slot,
                   f"run {self._deaths[slot]} {path}{grant}")

    def guard_died(self, slot: int) -> None:
        """The runner takes note of a death.

        An order says how many it knows of, and a guard does not run what was ordered before its
        predecessor's death was known: the runner is about to count that as lost.
        Raises ProcessError when one after the other has died before it was ready.
        """
        self._deaths[slot] += 1
        if self._stillborn[slot] >= MOST_STILLBORN:
            raise ProcessError(f"no process for slot {slot} stays alive: {MOST_STILLBORN} have ended, one after the "
                               "other, before they could run anything; what they had to say is above")

    def release(self, slot: int, grace: float) -> None:
        """Have this slot end its task, which goes back uncounted."""
        self._interrupt(slot, f"release {grace}")

    def cut_off(self, slot: int) -> None:
        """Have this slot end its task, which goes back uncounted; but not one that has its result and writes it."""
        self._interrupt(slot, "cutoff")

    def cancel(self, slot: int, path: str) -> None:
        """Have this slot end the task in this file, if it still runs it: it has been cancelled."""
        self._interrupt(slot, f"cancel {path}")

    def _interrupt(self, slot: int, order: str) -> None:
        """Give an order that a guard must hear also if somebody has stopped it: its own task, say."""
        self._send(self._orders, slot, order)
        guard = self._guards.get(slot)
        if guard is not None:
            system.send(guard, signal.SIGCONT)

    def _send(self, pipes: list[int], slot: int, order: str) -> None:
        """Also called by the watchdog's thread, while the loop may be closing the pipes."""
        with self._lock:
            try:
                if self._slot_of:
                    os.write(pipes[slot], order.encode() + b"\n")
            except BrokenPipeError:
                pass                        # the server is gone: poll will tell

    # -- reports -------------------------------------------------------------------------

    def poll(self, seconds: float | None) -> list[tuple[int, Message]]:
        """(slot, report) pairs that have come in, after at most this long; slot -1: the server is gone.

        A report also holds itself, as the ``line`` that came in.
        """
        found: list[tuple[int, Message]] = []
        for fd, _ in self._poller.poll(None if seconds is None else int(min(seconds, MOST_SECONDS) * 1000 + 0.999)):
            if fd == self.wakeup.reader:
                self.wakeup.clear()
                continue
            data = os.read(fd, 65536)
            if not data:
                self._poller.unregister(fd)
                found.append((-1, {"slot": self._slot_of[fd]}))
                continue
            *lines, self._rests[fd] = (self._rests[fd] + data).split(b"\n")
            found += [(self._slot_of[fd], {**json.loads(line), "line": line}) for line in lines]
        for slot, message in found:
            if "ready" in message:
                self._guards[slot], self._stillborn[slot] = message["ready"], 0
            elif "guard_died" in message and not self._guards.pop(slot, None):
                self._stillborn[slot] += 1
        return found

    # -- end -----------------------------------------------------------------------------

    def close(self) -> None:
        """End guards and server; whatever still runs is killed.  Closing twice is fine."""
        with self._lock:
            if not self._slot_of:
                return
            reports, self._slot_of = list(self._slot_of), {}
            for fd in (*self._orders, *self._work, *self._controls):
                os.close(fd)
        if self.server is not None:
            try:
                self.server.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        for fd in reports:
            os.close(fd)

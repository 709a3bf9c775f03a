"""The fork server: a fresh interpreter with dill and the user's modules, which forks the guards.

The runner may be any program, with threads, GPUs or a notebook, so it never forks; this process does.
It stays small, because every fork copies its page tables: no logging, threading, rich or click here.
It replaces a guard that was killed, and ends what that guard left behind.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys

from runforrest import graph
from runforrest.folder import sessions
from runforrest.folder.fsio import FileOps
from runforrest.process import system
from runforrest.process.config import Config
from runforrest.process.guard import Guard
from runforrest.process.waiting import PASSED_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(text: str) -> None:
    """Entry of the fresh interpreter.  ``text``: the config, and the pipes of each slot, as JSON."""
    found = json.loads(text)
    server = Server(Config.loads(found["config"]), found["pipes"], found["control"], found["ready"], found["runner"])
    os._exit(server.serve())


class Server:
    """Forks and keeps the guards of one runner."""

    def __init__(self, config: Config, pipes: list[dict[str, int]], control: int, ready: int, runner: int) -> None:
        self.config, self.pipes, self.control, self.ready = config, pipes, control, ready
        self.runner = runner
        self.guards: dict[int, int] = {}
        self.deaths = [0] * len(pipes)
        self.alive, self._life = os.pipe()              # its end tells the guards that this process is gone

    def serve(self) -> int:
        system.become_subreaper()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *args: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not self._prepare():
            return 1
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)     # not before: programs of a session inherit it
        for slot in range(len(self.pipes)):
            self._fork_guard(slot)
        gone = self._watch(reader)
        os.close(self._life)                            # tells the guards
        for guard in self.guards:
            system.send(guard, signal.SIGCONT)          # one that is stopped would not hear it
        while self.guards:                              # they end their tasks first
            self._reap(refork=False)
            if self.guards:
                select.select([reader], [], [], 0.1)
                _drain(reader)
        while True:
            system.kill_tree()
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return 0 if gone else 1
            select.select([reader], [], [], 0.05)
            _drain(reader)

    def _prepare(self) -> bool:
        """Load what every child needs; tells the runner how it went."""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        faulthandler.enable(file=2)                     # a crash in C code leaves a Python traceback
        problem = ""
        try:
            if self.config.session:
                import dill
                problem = f"loading the session {self.config.session}"
                dill.load_module(sessions.load(FileOps(self.config.root, trust=self.config.trust), self.config.session))
                graph.use_session()
            for module in self.config.preload:
                problem = f"preload of {module}"
                importlib.import_module(module)
        except BaseException as error:
            self._tell_ready({"error": f"{problem} failed: {type(error).__name__}: {error}"})
            return False
        gc.collect()
        gc.freeze()
        self._tell_ready({"pid": os.getpid()})
        return True

    def _tell_ready(self, message: dict[str, Any]) -> None:
        os.write(self.ready, json.dumps(message).encode() + b"\n")
        os.close(self.ready)

    def _watch(self, reader: int) -> bool:
        """Until the runner is gone: reap and replace guards."""
        poller = select.poll()
        poller.register(self.control, 0)                # nothing is sent; its end is the message
        poller.register(reader, select.POLLIN)
        try:
            runner = os.pidfd_open(self.runner)         # a fork of the runner may keep the pipe open
            poller.register(runner, select.POLLIN)
        except (AttributeError, OSError):
            runner = -1
        while True:
            for fd, _ in poller.poll(5000):
                if fd in (self.control, runner):
                    return True
                _drain(reader)
            if os.getppid() != self.runner:
                return True
            self._reap(refork=True)

    def _fork_guard(self, slot: int) -> None:
        pid = os.fork()
        if pid:
            self.guards[pid] = slot
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(self._life)
            pipes = self.pipes[slot]
            mine = set(pipes.values())
            for fd in [self.control, *(fd for each in self.pipes for fd in each.values() if fd not in mine)]:
                os.close(fd)
            Guard(self.config, slot, pipes["orders"], pipes["reports"], pipes["work"], self.alive,
                  self.deaths[slot]).serve()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self, refork: bool) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            slot = self.guards.pop(pid, None)
            if slot is not None and refork:
                self._replace(slot, status)

    def _replace(self, slot: int, status: int) -> None:
        """A guard died: end its task, tell the runner, fork another."""
        for pid in system.children(os.getpid()):
            if pid not in self.guards:                  # re-parented to us
                for each in [pid, *system.descendants(pid)]:
                    system.send(each, signal.SIGKILL)
        self.deaths[slot] += 1
        pipes = self.pipes[slot]
        for fd in (pipes["orders"], pipes["work"]):
            os.set_blocking(fd, False)
            _drain(fd)
            os.set_blocking(fd, True)
        os.write(pipes["reports"], json.dumps({"guard_died": status}).encode() + b"\n")
        self._fork_guard(slot)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        pass

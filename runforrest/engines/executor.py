"""Runners in the workers of a `concurrent.futures.Executor`: Dask, MPI, loky, parsl, executorlib, a pool of processes.

    with executor.engine(client.get_executor(), "DIR", runners=8) as engine:
        for ended in engine.wait():
            print(ended)

Each runner is a call that keeps a worker busy until the list is done; in it, ``runforrest run`` is a process of its
own, which ends when the worker does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from runforrest.engines.engine import Engine
from runforrest.engines.held import FAILED, Held, tail, with_import_path
from runforrest.engines.start import NOT_STARTED, Ended, Start
from runforrest.errors import InvalidArgument
from runforrest.folder import journal, layout, requests
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import open_list

LOOK_SECONDS = 1.0                 # between two looks at what the runner is asked
ENDING_SECONDS = 30.0              # for a runner to put its tasks back when its worker is interrupted
PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: becomes a command that is told to end when the process that started it dies
TIED = ("import os, signal, sys; from runforrest.process.system import die_with_parent; "
        "die_with_parent(int(sys.argv[1]), signal.SIGTERM); os.execv(sys.argv[2], sys.argv[2:])")
HERE = "here"                      # among the requests: this call has a worker
_SIGNALS = {requests.STOP: signal.SIGINT, requests.STOP_NOW: signal.SIGTERM}
Served = tuple[int, str, str]


def engine(executor: Executor, directory: str | os.PathLike[str], runners: int = 1, slots: int = 1,
           arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None, logs: str = "") -> Engine:
    """Runners in the workers of this executor, none of which is started yet.

    executor     anything with the ``submit`` of `concurrent.futures`; its workers must reach the folder, and have
                 runforrest installed
    directory    the task list
    runners      how many calls are submitted: one for each worker, as each keeps one busy until the list is done
    slots        tasks that each of them runs side by side
    arguments    further options of ``runforrest run``
    environment  variables that are added to those of the worker
    logs         what the names of their log files begin with, on the worker's host; '': they have none

    Raises InvalidArgument.
    """
    for what, number in (("runners", runners), ("slots", slots)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidArgument(f"{what} must be a whole number, 1 or more, not {number!r}", argument=what)
    if not callable(getattr(executor, "submit", None)):
        raise InvalidArgument(f"executor must be one of concurrent.futures, as client.get_executor() of Dask is, not "
                              f"{executor!r:.60}", argument="executor")
    if isinstance(arguments, str):
        raise InvalidArgument(f"arguments must be a list, as ['--retries', '2'], not {arguments!r}",
                              argument="arguments")
    directory = os.path.abspath(os.fspath(directory))
    files = [f"{os.path.abspath(logs)}_{rank}.log" if logs else "" for rank in range(runners)]
    return Engine([HeldByExecutor(Start(directory, slots, rank, file, arguments=("--quiet", *arguments),
                                        environment=dict(environment or {}), python=""), executor)
                   for rank, file in enumerate(files)])


class HeldByExecutor(Held):
    """A runner in one of the executor's workers.  It is asked to leave through the task list."""

    def __init__(self, start: Start, executor: Executor) -> None:
        super().__init__(start)
        self.label = f"call.{new_tag(8)}"       # stands for the runner in requests
        self._executor = executor
        self._future: Future[Served] | None = None

    def another(self, start: Start) -> Held:
        return HeldByExecutor(start, self._executor)

    def open(self) -> None:
        try:
            self._future = self._executor.submit(serve, self.start, self.label)
        except Exception as error:              # whatever the executor has for being shut down, or broken
            self._problem = _text(error)

    def tell(self, now: bool) -> None:
        """One that has no worker yet will not get one.

        Dask lets a call be cancelled that runs, and which goes on: so it is asked, too.
        """
        if self._future is None or now in self.told:
            return
        fs = FileOps(self.start.directory)
        open_list(fs)
        requests.ask(fs, requests.STOP_NOW if now else requests.STOP, self.label)
        self.told.add(now)
        if not _is_here(fs, self.label):
            self._future.cancel()

    def ended(self) -> Ended | None:
        if self._future is None:
            return Ended(self.start, NOT_STARTED, self._problem, bool(self.told))
        if not self._future.done():
            return None
        fs = FileOps(self.start.directory)
        if self._future.cancelled() and not _is_here(fs, self.label):
            _forget(fs, self.label)
        try:
            code, said, host = self._future.result()
        except Exception as error:              # it was cancelled; the worker died, or could not call us
            code, said, host = FAILED, _text(error), ""
        return Ended(replace(self.start, node=host), code, said, bool(self.told))

    def let_go(self) -> None:
        """The worker can't be ended from here: its runner leaves when it sees that it is asked to."""
        if self._future is not None:
            self._future.cancel()


# -- in the worker -----------------------------------------------------------------------


def serve(start: Start, label: str) -> Served:
    """Be a runner: returns its exit code (see `Ended`), the last that it said, and the host.

    label  the name under which it may be asked to leave, besides its own
    """
    with open(start.log, "ab") if start.log else tempfile.TemporaryFile("ab") as log:   # which has no name to be left
        before = log.tell()
        try:
            process = _start(replace(start, python=start.python or sys.executable), log)
        except OSError as error:
            return NOT_STARTED, f"{error.strerror or error}: {error.filename}", socket.gethostname()
        fs = FileOps(start.directory)
        try:
            code = _watch(process, fs, label)
        finally:
            _end(process)
            _forget(fs, label)
        return code, tail(start.log or f"/dev/fd/{log.fileno()}", before), socket.gethostname()


def _start(start: Start, log: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **with_import_path(start.variables())}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), PACKAGES]))
    return subprocess.Popen([start.python, "-c", TIED, str(os.getpid()), *start.command()], env=environment,
                            cwd=start.cwd if os.path.isdir(start.cwd) else None, stdin=subprocess.DEVNULL, stdout=log,
                            stderr=subprocess.STDOUT, start_new_session=True)


def _watch(process: subprocess.Popen[bytes], fs: FileOps, label: str) -> int:
    """Wait for the runner's end, and pass on what it is asked under this label."""
    met: set[str] = set()
    if os.path.isdir(fs.path(layout.TODO)):     # else it will say what is wrong
        requests.ask(fs, HERE, label)
    while True:
        try:
            return process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            asked = {what for what, about in requests.pending(fs) if about == label and what in _SIGNALS}
        except OSError:                         # out of reach: the runner has its own rules for that
            continue
        for what in asked - met:
            process.send_signal(_SIGNALS[what])
        met |= asked


def _end(process: subprocess.Popen[bytes]) -> None:
    """The worker is interrupted: so is its runner."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_here(fs: FileOps, label: str) -> bool:
    return (HERE, label) in requests.pending(fs)


def _forget(fs: FileOps, label: str) -> None:
    try:
        requests.forget_runner(fs, label)
        if not fs.entries(layout.HB):           # the last runner could not tidy up, while the request was there
            journal.tidy(fs)
    except OSError:
        pass                                    # nobody reads it any more


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")

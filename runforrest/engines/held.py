"""A runner that was started, held by the process here that ends when it does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from typing import IO

from runforrest.engines.start import FAREWELL, HELLO, NOT_STARTED, ORDERLY, Ended, Start
from runforrest.folder import layout, requests
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import read_heartbeat
from runforrest.folder.settings import open_list

NOTHING_SAID = "nothing; the shell there has not run what it was given: does one of its start-up files read it?"
TAIL_BYTES = 4000                  # of what a runner has written, when it failed
WORDS_BYTES = 1 << 20              # … and of what ssh or srun has said
FAILED = 255                       # ssh has no other exit code for what went wrong with itself; srun's becomes that
#: what a login shell has said before may end without a newline
_HELLO = re.compile(rf"{HELLO} (?P<host>\S+) (?P<pid>\d+)$", re.MULTILINE)
_FAREWELL = re.compile(rf"^{FAREWELL} (\d+)$", re.MULTILINE)


class Held:
    """A runner on this host, in a session of its own.  Subclasses reach other hosts."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.told: set[bool] = set()        # whether it was asked to leave, and to do so now
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        self._before = 0

    # -- what differs between the engines ------------------------------------------------

    def another(self, start: Start) -> Held:
        """One in the same place."""
        return type(self)(start)

    def command(self) -> list[str]:
        return self.start.command()

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.start.variables()}

    def open(self) -> None:
        """Start it; what prevents that is told by `ended`."""
        try:
            self._before = _size(self.start.log)
            with open(self.start.log, "ab") as log:
                self._spawn(subprocess.DEVNULL, log, self.start.cwd)
        except OSError as error:
            self._problem = f"{error.strerror or error}: {error.filename or self.command()[0]}"

    def tell(self, now: bool) -> None:
        """Ask it to leave, when its tasks have ended, or now.  Asking again changes nothing."""
        if self._process is not None and now not in self.told:
            self._process.send_signal(signal.SIGTERM if now else signal.SIGINT)
            self.told.add(now)

    def said(self) -> str:
        """The end of what it has written."""
        return tail(self.start.log, self._before)

    def own_code(self, code: int) -> int:
        """The runner's exit code, by that of the process here."""
        return code

    def is_lost(self, code: int) -> bool:
        """Whether this exit code of the process here says nothing of the runner."""
        return False

    # -- what does not -------------------------------------------------------------------

    def ended(self) -> Ended | None:
        """How it ended, or None."""
        if self._process is None:
            return Ended(self.start, NOT_STARTED, self._problem, bool(self.told))
        code = self._process.poll()
        if code is None:
            return None
        return Ended(self.start, self.own_code(code), self.said(), bool(self.told), self.is_lost(code))

    def let_go(self) -> None:
        """End the process here, at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Nothing will be asked of it any more."""

    def _spawn(self, stdin: int | IO[bytes], out: IO[bytes], cwd: str | None) -> None:
        self._process = subprocess.Popen(self.command(), env=self.environment(), cwd=cwd, stdin=stdin, stdout=out,
                                         stderr=subprocess.STDOUT, start_new_session=True)


class HeldElsewhere(Held):
    """A runner on another host, with a client of ssh or Slurm here.

    It writes its log itself.  What the client says, and the line by which the runner's process is known, come into
    a file here.  It is asked to leave through the task list, as signals don't travel with every client, and as that
    works when the connection is lost, too.
    """

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._words: IO[bytes] = tempfile.TemporaryFile()   # noqa: SIM115 - closed by `close`
        self._runner = ""           # its name in the list, when it was asked something

    def input(self) -> bytes:
        """For the standard input of the client."""
        return b""

    def open(self) -> None:
        try:
            self._before = _size(self.start.log)
            with tempfile.TemporaryFile() as given:
                given.write(self.input())
                given.seek(0)
                self._spawn(given, self._words, None)
        except OSError as error:
            self._problem = f"{error.strerror or error}: {error.filename or self.command()[0]}"

    def hello(self) -> re.Match[str] | None:
        """What the process that becomes the runner has said of itself: host, pid."""
        return _HELLO.search(self.words())

    def words(self) -> str:
        """What the client has said, and the line by which the runner is known.  It shares the file position with us."""
        return os.pread(self._words.fileno(), WORDS_BYTES, 0).decode("utf-8", "replace")

    def own_code(self, code: int) -> int:
        """What the shell over there has said.  If it did not come to that, what the client says, but neither that all
        is well, as srun does when a node dies, nor 1, by which it means itself.  128 and more is a signal that a shell
        has seen.
        """
        farewell = self.farewell()
        ended = 128 + signal.SIGKILL if self.hello() else FAILED
        found = int(farewell[1]) if farewell else {0: ended, 1: FAILED}.get(code, code)
        return found if found <= 128 or found == FAILED or found in ORDERLY else 128 - found

    def farewell(self) -> re.Match[str] | None:
        """What the shell has said when the runner had ended: its exit code."""
        return _FAREWELL.search(self.words())

    def said(self) -> str:
        of_client = _FAREWELL.sub("", _HELLO.sub("", self.words())).strip()[-TAIL_BYTES:]
        return "\n".join(filter(None, [super().said(), of_client])) or NOTHING_SAID * (self.hello() is None)

    def tell(self, now: bool) -> None:
        """It may take two seconds until the runner sees that; if it is not in the list yet, call again."""
        hello = self.hello()
        if now in self.told or hello is None:
            return
        fs = FileOps(self.start.directory)
        open_list(fs)
        self._runner = self._runner or find_runner(fs, hello["host"], int(hello["pid"]))
        if self._runner:
            requests.ask(fs, requests.STOP_NOW if now else requests.STOP, self._runner)
            self.told.add(now)

    def close(self) -> None:
        self._words.close()

    def ended(self) -> Ended | None:
        ended = super().ended()
        if ended is not None and self._runner and not ended.lost:
            try:
                requests.forget_runner(FileOps(self.start.directory), self._runner)
            except OSError:
                pass                    # nobody reads it any more
        return ended


def find_runner(fs: FileOps, host: str, pid: int) -> str:
    """The name of the runner that is this process, or ''."""
    for entry in fs.entries(layout.HB):
        runner, _, number = entry.rpartition("@")
        if f".{pid}." in runner:
            found, _ = read_heartbeat(fs, runner, number)
            if found.get("pid") == pid and found.get("host") == host:
                return runner
    return ""


def tail(file: str, begin: int = 0) -> str:
    """The last lines of a file, from what was written after this place; '' if there is none."""
    try:
        with open(file, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(begin, size - TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def with_import_path(variables: Mapping[str, str]) -> dict[str, str]:
    """The same, with this process's PYTHONPATH for a host that starts from scratch."""
    path = os.environ.get("PYTHONPATH")
    return {**({"PYTHONPATH": path} if path else {}), **variables}


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0

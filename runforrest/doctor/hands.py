"""Starting the two hands, here or over ssh, and talking with them."""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("hand.py")
PATIENCE = 60.0                    # seconds that an operation may take before the folder counts as hanging
CLOSING = 40.0                     # seconds for the hand that tidies up
LAST_CHANCE = 2.0                  # and for one that has hung before
SSH = ("ssh", "-T", "-o", "ConnectTimeout=15")
PINGS = 15


class Refused(Exception):
    """An operation failed.  ``code``: the name of the error, as EACCES."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Silent(Exception):
    """A hand did not answer in time: the folder hangs."""


class Gone(Exception):
    """A hand could not be started, or has ended.  The text says what it said last."""


@dataclass(frozen=True)
class Place:
    """A folder, and where it is reached from.  ``ssh``: host and options for ssh; '' for this host."""

    directory: str
    ssh: str = ""

    def __str__(self) -> str:
        return f"{shlex.split(self.ssh)[-1]}:{self.directory}" if self.ssh else self.directory


class HandProcess:
    """A hand at work in a place.  ``hung``: it is not expected to come back."""

    def __init__(self, place: Place) -> None:
        self.place = place
        source = PROGRAM.read_bytes() if place.ssh else b""
        try:
            # a session of its own: Ctrl-C is for us, and the hand has to tidy up
            self._process = subprocess.Popen(_command(place, len(source)), stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            raise Gone(f"{SSH[0] if place.ssh else sys.executable}: {error.strerror}") from None
        self._read, self.hung = b"", False
        self._send(source)

    def call(self, do: str, patience: float = PATIENCE, **arguments: Any) -> Any:
        """Ask, and wait for the answer.  Raises Refused, Silent, Gone."""
        self.ask(do, **arguments)
        return self.answer(patience)

    def ask(self, do: str, **arguments: Any) -> None:
        self._send(json.dumps({"do": do, "with": arguments}).encode() + b"\n")

    def answer(self, patience: float = PATIENCE) -> Any:
        answer = json.loads(self._line(time.monotonic() + patience))
        if "error" in answer:
            raise Refused(answer["error"], answer["text"])
        return answer["value"]

    def clocks(self) -> tuple[float, float, float]:
        """Seconds by which the hand's monotonic clock and its time of day are ahead, and the error of that."""
        best: tuple[float, float, float] | None = None
        for _ in range(PINGS):
            begun, today = time.monotonic(), time.time()
            monotonic, wall = self.call("clocks")
            half = (time.monotonic() - begun) / 2
            if best is None or half < best[2]:
                best = monotonic - begun - half, wall - today - half, half
        assert best is not None
        return best

    def close(self) -> None:
        """Let it tidy up and end; one that hangs in the folder is killed, and not waited for."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        for pipe in (self._process.stdin, self._process.stdout):    # it may be in the middle of a long answer
            try:
                pipe.close()
            except OSError:
                pass
        try:
            self._process.wait(LAST_CHANCE if self.hung else CLOSING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                pass
        self._process.stderr.close()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout
        fd = self._process.stdout.fileno()
        while b"\n" not in self._read:
            rest = deadline - time.monotonic()
            if rest <= 0 or not select.select([fd], [], [], rest)[0]:
                self.hung = True
                raise Silent(f"no answer from {self.place}")
            part = os.read(fd, 1 << 16)
            if not part:
                raise self._gone()
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _gone(self) -> Gone:
        assert self._process.stderr
        try:
            self._process.wait(5.0)
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        except subprocess.TimeoutExpired:
            said = []
        return Gone(said[-1] if said else f"exit code {self._process.returncode}")


def _command(place: Place, length: int) -> list[str]:
    """How to start a hand; over ssh it is sent there first, as so many characters."""
    if not place.ssh:
        return [sys.executable, "-I", "-S", str(PROGRAM)]
    remote = f"import sys;exec(compile(sys.stdin.read({length}),'hand.py','exec'))"
    return [*SSH, *shlex.split(place.ssh), f"exec python3 -c {shlex.quote(remote)}"]

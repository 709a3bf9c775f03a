"""What `runforrest batch` shows, and hears, while it runs."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from runforrest.cli import exits

if TYPE_CHECKING:
    from runforrest.batch.driver import Driver
    from runforrest.batch.plan import Plan

LIVE_SECONDS = 0.25
CODES: dict[int, int] = {signal.SIGINT: exits.INTERRUPTED, signal.SIGUSR1: exits.NOT_DONE}


class Signals:
    """Ctrl-C once: what runs is finished; twice, SIGTERM, or SIGUSR1, with which Slurm gives notice: it is put back."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.code = driver, 0
        self._pending: list[bool] = []

    def take(self, signum: int, frame: FrameType | None) -> None:
        now = signum != signal.SIGINT or bool(self.code)
        self.code = CODES.get(signum, exits.TERMINATED)
        self._pending.append(now)

    def asked(self) -> None:
        """Pass on what has come in; in the main loop, as stopping writes files."""
        while self._pending:
            now = self._pending.pop(0)
            say("ending what runs; it is put back" if now else "nothing new is started; once more to end what runs")
            self.driver.stop(now)


def leave(signum: int, frame: FrameType | None) -> None:
    """Before there is anybody to be told: what was begun is taken back."""
    raise SystemExit(CODES.get(signum, exits.TERMINATED))


@contextmanager
def signals_for(driver: Driver) -> Iterator[Signals]:
    signals = Signals(driver)
    with handled(signals.take, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)):
        yield signals


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None], signums: Iterable[int]) -> Iterator[None]:
    saved: dict[int, Any] = {signum: signal.signal(signum, handler) for signum in signums
                             if signal.getsignal(signum) != signal.SIG_IGN}
    try:
        yield
    finally:
        for signum, before in saved.items():
            signal.signal(signum, before)


class Live:
    """On a terminal, one line of what the status file tells."""

    def __init__(self, plan: Plan) -> None:
        self.path, self.next = plan.status_file, 0.0
        self.done = self.failed = self.at = 0
        self.on = _is_terminal()

    def tick(self) -> None:
        if not self.on or time.monotonic() < self.next:
            return
        self.next = time.monotonic() + LIVE_SECONDS
        try:
            self._show()
        except OSError:                    # the terminal is gone, or a person has moved the file
            self.on = False

    def _show(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self.at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.at += len(line)
                if line[:1] in b" R":
                    self.failed += line[:1] == b"R"
                    self.done += line[:1] != b"R"
        sys.stderr.write(f"\r\x1b[K{self.done} done, {self.failed} failed\r")
        sys.stderr.flush()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def say(text: str, who: str = "runforrest: ") -> None:
    """On standard error; that nobody is there any more to read it ends nothing."""
    with suppress(OSError):
        click.echo(("\r\x1b[K" if _is_terminal() else "") + who + text, err=True)

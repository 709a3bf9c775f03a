"""What a person sees of a run: one live line on a terminal, a line now and then elsewhere; on stderr.

The runner's callbacks only count; what is shown is made in a thread of its own, a few times a second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from runforrest.cli import texts

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from runforrest.model.names import Name
    from runforrest.runner import Runner

LIVE_PER_SECOND = 4
PLAIN_SECONDS = 10.0
RATE_SECONDS = 30.0                # the rate is that of the last so many seconds
_REASONS = {"done": "", "drained": "interrupted, what ran was finished: ",
            "released": "interrupted, what ran was put back: ", "terminated": "terminated, what ran was put back: ",
            "stopped": "stopped on request: ", "walltime": "its time is over, what ran was put back: ",
            "unfit": "what is left needs more than this runner has: ",
            "stuck": "what is left waits for tasks that are gone: ",
            "fenced": "had to stop (declared lost, or its folder is gone): "}


class Reading(NamedTuple):
    """The state of a run.  ``left``: seconds to go, if that can be told; ``waiting``: tasks in todo/, about."""

    done: int
    fail: int
    running: int
    waiting: int
    rate: float
    left: float | None

    def text(self) -> str:
        parts = [f"{self.done} done", f"{self.fail} failed", f"{self.running} running", f"{self.waiting} waiting"]
        if self.rate:
            parts.append(texts.rate(self.rate))
        if self.left is not None:
            parts.append(f"{texts.duration(self.left)} left")
        return ", ".join(parts)


class Meter:
    """Counts what a runner does, and estimates what is left."""

    def __init__(self) -> None:
        self.done = self.fail = 0
        self.runner: Runner | None = None
        self._started = 0
        self._listed = (0, 0)              # tasks in todo/ when it was last listed, and how many were started then
        self._begun = time.monotonic()
        self._samples: deque[tuple[float, int, int]] = deque()

    def watch(self, runner: Runner) -> None:
        self.runner = runner

    # -- the runner calls these: nothing here may take time --------------------------------

    def started(self, name: Name) -> None:
        self._look()
        self._started += 1

    def finished(self, name: Name, state: str, report: dict[str, Any]) -> None:
        if state == "done":
            self.done += 1
        else:
            self.fail += 1

    def _look(self) -> None:
        listed = self.runner.claims.listed if self.runner else 0
        if listed != self._listed[0]:
            self._listed = (listed, self._started)

    # -- whoever shows it calls these ------------------------------------------------------

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def read(self) -> Reading:
        self._look()
        listed, before = self._listed
        waiting = max(0, listed - (self._started - before))
        slots = self.runner.brain.slots if self.runner else []
        running = sum(slot.state in ("busy", "stopping") for slot in slots)
        own, overall = self._rates(time.monotonic(), waiting)
        speed = max(own, overall)
        left = (waiting + running) / speed if speed and waiting + running else None
        return Reading(self.done, self.fail, running, waiting, own, left)

    def _rates(self, now: float, waiting: int) -> tuple[float, float]:
        """Tasks per second: of this runner, and by how todo/ shrinks, which others do as well."""
        finished = self.done + self.fail
        self._samples.append((now, finished, waiting))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_SECONDS:
            self._samples.popleft()
        then, finished_then, waiting_then = self._samples[0]
        span = now - then
        if span <= 0:
            return 0.0, 0.0
        return (finished - finished_then) / span, max(0.0, (waiting_then - waiting) / span)


class Quiet:
    """Shows messages only; the base of the others."""

    def __init__(self, meter: Meter, directory: str, slots: int) -> None:
        self.meter, self.directory, self.slots = meter, directory, slots

    def say(self, text: str) -> None:
        """That it can't be written, as a disk is full or a terminal gone, ends nothing."""
        with suppress(OSError):
            print(f"runforrest: {texts.printable(text)}", file=sys.stderr, flush=True)

    def summary(self, reason: str) -> None:
        pass

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        pass


class Plain(Quiet):
    """A line at the start, one every ten seconds if something has changed, one at the end."""

    def __enter__(self) -> Plain:
        self.say(f"{texts.count(self.slots, 'slot')} at work on {self.directory}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="runforrest-progress", daemon=True)
        self._thread.start()
        return self

    def _report(self) -> None:
        last = ""
        while not self._over.wait(PLAIN_SECONDS):
            text = self.meter.read().text()
            if text != last:
                self.say(text)
            last = text

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def summary(self, reason: str) -> None:
        meter, seconds = self.meter, self.meter.seconds()
        number = meter.done + meter.fail
        speed = f" ({texts.rate(number / seconds)})" if number and seconds > 0 else ""
        hint = f"; `runforrest ls {self.directory} fail` lists what failed" if meter.fail else ""
        self.say(f"{_REASONS.get(reason, reason + ': ')}{meter.done} done, {meter.fail} failed "
                 f"in {texts.duration(seconds)}{speed}{hint}")


class OnTerminal(Plain):
    """A live line, which goes away at the end; messages scroll by above it."""

    _live: Live | None = None

    def __enter__(self) -> OnTerminal:
        from rich.console import Console
        from rich.live import Live
        self._live = Live(get_renderable=self._line, console=Console(stderr=True), transient=True,
                          refresh_per_second=LIVE_PER_SECOND, redirect_stdout=False, redirect_stderr=False)
        self._live.start()
        return self

    def _line(self) -> Text:
        from rich.text import Text
        return Text(self.meter.read().text(), no_wrap=True, overflow="ellipsis")

    def say(self, text: str) -> None:
        if self._live is None:
            super().say(text)
        else:
            self._live.console.print(f"runforrest: {texts.printable(text)}", markup=False, highlight=False,
                                     soft_wrap=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def reporter(meter: Meter, directory: str, slots: int, quiet: bool) -> Quiet:
    """What fits the place where stderr goes."""
    if quiet:
        return Quiet(meter, directory, slots)
    if sys.stderr.isatty():
        from rich.console import Console
        if not Console(stderr=True).is_dumb_terminal:
            return OnTerminal(meter, directory, slots)
    return Plain(meter, directory, slots)

"""Signals while a runner is at work: Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1, with which batch systems give notice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from runforrest.model import events as ev
from runforrest.runner.loop import Runner


@contextmanager
def forwarded(runner: Runner, insistent: Callable[[], None] | None = None) -> Iterator[None]:
    """Give SIGINT, SIGTERM, SIGHUP and SIGUSR1 to the runner as events, while in this block.

    Only in the main thread, and only those that are not handled by somebody already (or ignored, as
    SIGHUP under nohup).  ``insistent`` is called at each SIGINT after the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        runner.tell(ev.Interrupt())
        if count > 1 and insistent:
            insistent()

    def terminate(signum: int, frame: FrameType | None) -> None:
        runner.tell(ev.Terminate("walltime" if signum == signal.SIGUSR1 else "terminated"))

    saved = {}
    for signum, free, handler in ((signal.SIGINT, signal.default_int_handler, interrupt),
                                  (signal.SIGTERM, signal.SIG_DFL, terminate),
                                  (signal.SIGHUP, signal.SIG_DFL, terminate),
                                  (signal.SIGUSR1, signal.SIG_DFL, terminate)):
        if signal.getsignal(signum) == free:
            saved[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, handler in saved.items():  # type: ignore[assignment]
            signal.signal(signum, handler)

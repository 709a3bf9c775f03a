"""What a guard waits for: orders, the end of its child, the end of the runner or of the fork server.

Without signal handlers where the system has pidfds: a child would have to put them off again, and in a
fresh fork that costs more than all the rest of its start.  Loaded in every child.
"""

from __future__ import annotations

import os
import select
import signal

MOST_SECONDS = 86400.0              # poll takes no more than 24 days
#: what a batch system sends to every process of a job when its time is over: it is the runner's to act on it, so
#: the fork server and the guards block it, and their children don't
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class RunnerGone(Exception):
    """The runner, or the fork server, is no more."""


class Waiter:
    """One poll for everything.

    orders   the pipe from the runner, a line each: ``run DEATHS PATH``, ``release GRACE``, ``cutoff``,
             ``cancel PATH``
    alive    a pipe that the fork server holds open as long as it lives
    signals  have SIGCHLD and SIGUSR1 wake it as well (a child that is reused, a system without pidfds)
    """

    def __init__(self, orders: int, alive: int, signals: bool) -> None:
        self.orders, self.alive = orders, alive
        self.poller = select.poll()
        self.poller.register(orders, select.POLLIN)
        self.poller.register(alive, 0)
        self.handled: tuple[int, ...] = ()
        self._rest = b""
        self._later: list[bytes] = []
        self._bell = self._pidfd = -1
        if signals or not has_pidfds():
            self._ring_on_signals()

    def _ring_on_signals(self) -> None:
        self._bell, writer = os.pipe()
        for fd in (self._bell, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.handled = (int(signal.SIGCHLD), int(signal.SIGUSR1))
        for signum in self.handled:
            signal.signal(signum, _nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.handled)
        self.poller.register(self._bell, select.POLLIN)

    def watch(self, child: int) -> None:
        """Wake when this child has ended, too."""
        if has_pidfds():
            self._pidfd = os.pidfd_open(child)
            self.poller.register(self._pidfd, select.POLLIN)

    def unwatch(self) -> None:
        if self._pidfd >= 0:
            self.poller.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def wait(self, seconds: float | None) -> list[bytes]:
        """Orders that have come in, after at most this long; [] when something else happened.

        Raises RunnerGone when the other end of the orders, or the fork server, is no more.
        """
        if self._later:
            found, self._later = self._later, []
            return found
        found = []
        patience = None if seconds is None else max(1, int(min(seconds, MOST_SECONDS) * 1000 + 0.999))
        for fd, _ in self.poller.poll(patience):
            if fd == self.orders:
                data = os.read(fd, 65536)
                if not data:
                    raise RunnerGone
                *lines, self._rest = (self._rest + data).split(b"\n")
                found += lines
            elif fd == self.alive:
                raise RunnerGone
            elif fd == self._bell:
                try:
                    os.read(fd, 4096)
                except BlockingIOError:
                    pass
        for at, order in enumerate(found):
            if order.startswith(b"run "):       # what comes behind it is about that task
                found, self._later = found[:at + 1], found[at + 1:]
                break
        return found


def has_pidfds() -> bool:
    """Linux 5.3 and Python 3.9 on."""
    global _pidfds
    if _pidfds is None:
        try:
            os.close(os.pidfd_open(os.getpid()))
            _pidfds = True
        except (AttributeError, OSError):
            _pidfds = False
    return _pidfds


_pidfds: bool | None = None


def _nothing(signum: int, frame: object) -> None:
    pass

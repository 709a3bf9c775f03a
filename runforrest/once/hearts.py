"""Hearts: how it is known that a process that holds keys still lives, without a timeout that somebody must guess.

A process has one heart for all keys that it holds in one store.  Its beats are numbers that only grow.  Another
process takes it for dead if it can prove that (same host, same boot, no such process), or after it has seen the same
number for a lease, counted by its own monotonic clock while it could reach the store: no two clocks are compared.
Declaring it dead names the number that was seen, so that it fails if the heart has beaten since.

That a living process is declared dead does no harm but lost work: who takes a key over makes its old claim void.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from runforrest.folder import identity
from runforrest.folder.attempts import new_tag
from runforrest.once.errors import KeyStoreError
from runforrest.once.model import Unreachable

DEAD = "dead"
ABSENT = ""
LEAVING_SECONDS = 5.0
KEPT_SECONDS = 86400               # that a dead heart is kept, so that its keys are known to be free at once
SWEPT = 20                         # hearts that who begins looks at, whether they are old; of thousands, too


def is_old(number: str, age: float, beat: float) -> bool:
    """Whether a heart that was made so many seconds ago can go: it was declared dead, or is one of the many whose
    processes were killed, and nobody asked for.  Such a one has beaten for a small part of the time only.
    """
    beaten = 0.0 if number == DEAD else (int(number) + 1) * beat if number.isdecimal() else age
    return age > KEPT_SECONDS and beaten < age / 4


class Heartbeats(Protocol):
    """Where a store keeps the beats.  All raise OSError or Unreachable."""

    def begin(self, owner: str, text: dict[str, Any]) -> None:
        """Make a heart, at 0, with the identity of its process."""

    def beat(self, owner: str, number: int) -> bool:
        """Raise it from this number by one; False: it was declared dead."""

    def numbers(self) -> dict[str, str]:
        """All hearts, with their numbers, or 'dead'."""

    def identity(self, owner: str, number: str) -> dict[str, Any]:
        """Whose heart it is; {} if that can't be told now."""

    def bury(self, owner: str, number: str) -> bool:
        """Declare it dead, unless it has beaten since it had this number."""

    def end(self, owner: str, number: int, holding: bool) -> None:
        """The process leaves.  ``holding``: and still has keys, which are free from now on."""


class Watch:
    """What was seen of other hearts: for how many seconds each has not changed.  Touches nothing.

    A look that comes late counts for one beat: in between, this process, or the store, was away.
    """

    def __init__(self, beat: float, lease: int) -> None:
        self.beat, self.lease = beat, lease
        self._seen: dict[str, tuple[str, float]] = {}
        self._looked: float | None = None

    def see(self, now: float, numbers: dict[str, str], wanted: Iterable[str]) -> list[str]:
        """Note one look; returns those of ``wanted`` that have not changed for a lease."""
        step = 0.0 if self._looked is None else min(now - self._looked, self.beat)
        self._looked = now
        seen = {}
        for owner in wanted:
            number = numbers.get(owner, ABSENT)
            before, seconds = self._seen.get(owner, (None, 0.0))
            seen[owner] = (number, seconds + step if number == before else 0.0)
        self._seen = seen
        return [owner for owner, (_, seconds) in seen.items() if seconds >= self.beat * self.lease]


class Hearts:
    """This process's own heart in a store, and what it knows of the others'."""

    def __init__(self, place: Heartbeats, beat: float, lease: int, local: bool) -> None:
        """``beat``: seconds.  ``lease``: beats.  ``local``: only processes of this machine use the store."""
        self.place, self.beat, self.lease, self.local = place, beat, lease, local
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watch = Watch(self.beat, self.lease)
        self._owner, self._number = "", 0
        self._holding: set[str] = set()
        self._wanted: set[str] = set()
        self._dead: set[str] = set()
        self._identities: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, str] = {}
        self._looked = 0.0
        self._thread: threading.Thread | None = None
        self._leaving = threading.Event()
        self._closed = False

    def _check_fork(self) -> None:
        if self._pid != os.getpid() or self._closed:    # a child has no part in its parent's heart; who has left
            self._reset()                               # and comes again begins another one

    # -- its own -------------------------------------------------------------------------

    def owner(self) -> str:
        """The name of this process's heart, which beats from now on."""
        self._check_fork()
        with self._lock:
            if not self._owner:
                owner = f"{identity.hostname()}.{os.getpid()}.{new_tag(6)}"
                self.place.begin(owner, identity.identity(local=self.local))
                atexit.register(self.close)
                self._owner, self._number = owner, 0
            self._start()
            return self._owner

    def holds(self, ref: str) -> None:
        self._check_fork()
        self._holding.add(ref)

    def drops(self, ref: str) -> None:
        self._holding.discard(ref)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runforrest-once-heart", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._leaving.wait(self.beat):
            try:
                with self._lock:
                    self._beat_once()
                    self._look()
            except (OSError, Unreachable, KeyStoreError):   # others wait a lease for the next one
                continue

    def _beat_once(self) -> None:
        if not self._owner:
            return
        if self.place.beat(self._owner, self._number):
            self._number += 1
        else:
            self._owner = ""                    # what it held may be taken; the next claim makes a new heart

    def close(self) -> None:
        """Leave: keys that this process still holds are free for others."""
        if self._pid != os.getpid() or self._leaving.is_set():
            return
        self._leaving.set()
        atexit.unregister(self.close)
        if self._lock.acquire(timeout=LEAVING_SECONDS):     # a beat may be waiting for a file server
            try:
                if self._owner:
                    self.place.end(self._owner, self._number, bool(self._holding))
            except (OSError, Unreachable, KeyStoreError):
                pass
            finally:
                self._owner = ""
                self._lock.release()
        self._closed = True

    # -- the others' ---------------------------------------------------------------------

    def is_dead(self, owner: str) -> bool:
        """Whether the heart of a claim has stopped.  What is not known yet becomes known in the background."""
        self._check_fork()
        with self._lock:
            if owner not in self._dead and owner not in self._wanted and owner != self._owner:
                self._wanted.add(owner)
                if not self._seen_of_late(owner):
                    self._look()
                self._start()
            return owner in self._dead

    def _seen_of_late(self, owner: str) -> bool:
        """Whether the last look tells that it lives: where hundreds hold keys, each look sees hundreds of hearts."""
        number = self._numbers.get(owner, ABSENT)
        if number == ABSENT or time.monotonic() - self._looked > self.beat:
            return False
        return self._judge(owner, number, False) and (owner in self._dead or bool(self._identities.get(owner)))

    def _look(self) -> None:
        if not self._wanted:
            return
        self._numbers = self.place.numbers()
        self._looked = time.monotonic()
        silent = self._watch.see(self._looked, self._numbers, self._wanted)
        for owner in list(self._wanted):
            self._judge(owner, self._numbers.get(owner, ABSENT), owner in silent)

    def _judge(self, owner: str, number: str, silent: bool) -> bool:
        """Declare it dead, if it can be.  False: it has beaten since it had this number."""
        if number == DEAD or silent or self._is_proven_dead(owner, number):
            if number not in (DEAD, ABSENT) and not self.place.bury(owner, number):
                return False
            self._wanted.discard(owner)
            self._dead.add(owner)
        return True

    def _is_proven_dead(self, owner: str, number: str) -> bool:
        if number == ABSENT:
            return False
        found = self._identities.get(owner) or self.place.identity(owner, number)
        self._identities[owner] = found
        return bool(found) and identity.verdict(found, self.local) == "dead"

"""A folder of keys is made by one of all who come at the same moment; the others wait until it is whole.

On GlusterFS a folder in which one host creates something while another host is still making it may have its copies
blame each other, after which nothing can be done in it.  So who uses these folders must find them made.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from typing import Any

from runforrest.folder import identity
from runforrest.folder.attempts import new_tag
from runforrest.once.files import NO_LINKS, NO_WRITING, KeyFiles

MARK = ".making"
PATIENCE = 60.0                    # seconds for a maker of whom nobody knows that it is dead
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
UNFIT = (*NO_WRITING, *NO_LINKS, errno.ENAMETOOLONG)   # as a place for the mark


def make_by_one(fs: KeyFiles, is_made: Callable[[], bool], make: Callable[[], None]) -> None:
    """Have the folder made by this process or another one.  Returns when ``is_made``.

    Its parent must be there.  ``make`` must bear company, and what a maker has left that was killed: who knows that
    the maker is dead, or has waited for a minute, makes the folder himself.
    """
    mark, deadline, pause = _Mark(fs), time.monotonic() + PATIENCE, FIRST_PAUSE
    while not is_made():
        if mark.set():
            try:
                if not is_made():
                    make()
            finally:
                mark.remove()
            return
        other = mark.text()
        if other and (_is_dead(other, mark.local) or time.monotonic() > deadline):
            if not mark.take_away(other):       # whose it is does not let us
                make()
                return
            deadline, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
        elif other:
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


class _Mark:
    """Says who makes the folder: a symbolic link, beside it, or in it where nothing can be made beside it."""

    def __init__(self, fs: KeyFiles) -> None:
        parent, name = os.path.split(fs.root)
        self.local = identity.is_local(parent)
        self._fs, self._name = KeyFiles(os.path.realpath(parent), fs.hook), f".{name}{MARK}"
        self._within: KeyFiles | None = fs
        self._mine = json.dumps({**identity.identity(local=self.local), "tag": new_tag()})

    def set(self) -> bool:
        """Whether it is ours now; False if there is one.  Raises OSError."""
        try:
            self._fs.symlink(self._mine, self._name)
        except OSError as error:
            if error.errno in UNFIT and self._within is not None:
                os.makedirs(self._within.root, mode=0o700, exist_ok=True)
                self._fs, self._name, self._within = self._within, MARK, None
                return self.set()
            if self.text() == self._mine:       # a reply was lost
                return True
            if error.errno in NO_LINKS:         # nobody can set one here; whoever makes the folder is told why
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        return True

    def text(self) -> str | None:
        return self._fs.readlink(self._name)

    def remove(self) -> None:
        self._fs.unlink(self._name)

    def take_away(self, other: str) -> bool:
        """Remove another's mark; False if it is still there."""
        taken = f"{self._name}.{new_tag()}"     # of several who do so one gets further
        try:
            self._fs.rename(self._name, taken)
        except OSError:
            return self.text() != other
        if self._fs.readlink(taken) == other:
            self._fs.unlink(taken)
        else:                                   # of the next maker by now
            self._fs.rename(taken, self._name)
        return True


def _is_dead(mark: str, local: bool) -> bool:
    try:
        who: dict[str, Any] = json.loads(mark)
        return identity.verdict(who, local) == "dead"
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):    # not one of ours
        return False

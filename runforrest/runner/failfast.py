"""Batches that end at the first failure: a runner that has seen one, or heard of it, starts nothing more."""

from __future__ import annotations

import time

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps

HOLD_SECONDS = 30.0                # so long it waits for the feeder to take back the rest, which may be dead itself


class FailFast:
    """Whether a runner is to claim no task of such a batch now.  In any other list, always not."""

    def __init__(self, fs: FileOps) -> None:
        self._fs, self._on = fs, fs.exists(layout.FAIL_FAST)
        self._until = 0.0                       # on the monotonic clock
        self._asked = False

    def note(self) -> None:
        """A task has failed for good."""
        if self._on:
            self._until = time.monotonic() + HOLD_SECONDS

    @property
    def urgent(self) -> bool:
        """The feeder should hear soon what has ended."""
        return time.monotonic() < self._until

    def holds(self, asked: bool) -> bool:
        """Whether the feeder has not taken back the rest yet.  Raises OSError if the folder is in trouble.

        asked  it has asked everybody to wait for that
        """
        if asked and not self._asked:
            self.note()
        self._asked = asked
        return self.urgent and self._fs.exists(layout.FAIL_FAST)

"""The part of ``todo/`` that a runner looks at: list once, keep the front, list again when it is used up."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import SUFFIX, Name

SMALLEST, SHARE = 1024, 64         # names kept: at least this many, else this share of the list
CROWD = 8                          # with other runners about, pick among this many per slot


class TodoWindow:
    """The next tasks to claim, the most urgent and oldest first.

    A listing is a hint: what it shows may be gone, and the answer of a rename is the truth.
    """

    def __init__(self, fs: FileOps, slots: int, foreign: Callable[[str], None],
                 wanted: Callable[[Name], bool] | None = None) -> None:
        """``foreign`` is told each name once that can't be a task's; ``wanted`` chooses among the tasks."""
        self.fs, self.slots = fs, slots
        self.listed = 0                    # tasks seen by the last listing
        self._names: deque[str] = deque()
        self._foreign = foreign
        self._told: set[str] = set()
        self._wanted = wanted

    def refill(self) -> bool:
        """List ``todo/`` anew; False if there is nothing in it for this runner.

        Two passes over the folder, so that memory does not grow with the list.
        """
        self.listed = sum(1 for n in self.fs.scan(layout.TODO) if n.endswith(SUFFIX))
        keep = max(SMALLEST, self.listed // SHARE)
        self._names = deque(heapq.nsmallest(keep, filter(self._is_task, self.fs.scan(layout.TODO))))
        return bool(self._names)

    def pop(self, crowded: bool) -> Name | None:
        """The next candidate; with other runners about a random one near the front, so as not to collide."""
        if not self._names:
            return None
        offset = random.randrange(min(len(self._names), CROWD * self.slots)) if crowded else 0
        self._names.rotate(-offset)
        text = self._names.popleft()
        self._names.rotate(offset)
        return Name.parse(text)

    def put_back(self, names: list[Name]) -> None:
        """What was popped and not claimed comes first again."""
        self._names.extendleft(str(name) for name in reversed(names))

    def __len__(self) -> int:
        return len(self._names)

    def forget(self) -> None:
        self._names.clear()

    def _is_task(self, text: str) -> bool:
        name = Name.parse(text)
        if name is None:
            if text not in self._told and len(self._told) < 1000:
                self._told.add(text)
                self._foreign(text.encode("unicode_escape").decode() if not text.isprintable() else text)
            return False
        return self._wanted is None or self._wanted(name)

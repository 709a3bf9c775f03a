"""Where the tasks of a list are."""

from __future__ import annotations

import time
from collections.abc import Iterable

from runforrest.folder import layout
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import Waiting
from runforrest.model.names import Name

SEARCH_SECONDS, SEARCHES = 2.0, 5          # a task that is nowhere in so many looks was removed


def names_in(folder: TaskFolder, state: str) -> Iterable[Name]:
    """The tasks there, in whatever order."""
    if state == layout.WAITING:
        return [name for _, name in Waiting(folder).tasks()]
    if state == layout.DOING:
        return [name for names in folder.claims().values() for name in names]
    return folder.scan(state)


class Search:
    """Looks for tasks that a person has removed.  One look may miss a task that moves meanwhile."""

    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder
        self._due = 0.0                             # by the monotonic clock
        self._looks_in_vain: dict[str, int] = {}

    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def removed(self, ids: Iterable[str]) -> list[str]:
        """Those of them that were in none of the last looks, of which this is one.  Raises OSError."""
        begun, missing = time.monotonic(), set(ids)
        for state in (layout.TODO, layout.DOING, layout.TODO, layout.WAITING, layout.DONE, layout.FAIL):
            if not missing:
                break
            missing.difference_update(name.id for name in names_in(self.folder, state))
        self._looks_in_vain = {id: self._looks_in_vain.get(id, 0) + 1 for id in missing}
        now = time.monotonic()
        self._due = now + max(SEARCH_SECONDS, 20 * (now - begun))
        return [id for id, looks in self._looks_in_vain.items() if looks >= SEARCHES]

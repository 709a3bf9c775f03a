"""Which tasks of a batch have ended, each told once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runforrest.folder import layout
from runforrest.folder.following import Following
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder


@dataclass(slots=True)
class End:
    """How a task ended for good: its number, ``done`` or ``fail``, and the record of its last attempt."""

    task: int
    state: str
    record: dict[str, Any]


class Ends:
    """The ends of one batch's tasks, each told once; one that failed and is then done by a later attempt, twice.

    tag  what the ids of the batch's tasks have in common
    """

    def __init__(self, folder: TaskFolder, tag: str) -> None:
        self.folder, self.tag = folder, tag
        self._told = bytearray()                    # by task: 0, or 1 for done, 2 for fail
        self._following = Following(folder)
        self.look_due = self._following.look_due

    def number_of(self, id: str) -> int | None:
        """The number of the task with this id; None if it is not of this batch."""
        parts = id.split("-", 3)
        return int(parts[3]) if len(parts) == 4 and parts[2] == self.tag and parts[3].isdecimal() else None

    def heard(self) -> Iterator[End]:
        """What the journals tell since the last time."""
        for id, state, record in self._following.heard():
            number = self.number_of(id)
            if number is not None and self._is_new(number, state):
                yield End(number, state, record)

    def looked(self) -> Iterator[End]:
        """What is in ``done/`` and ``fail/`` and was not told yet."""
        part = f"-{self.tag}-"
        for name, state in self._following.looked(lambda entry: part in entry):
            number = self.number_of(name.id)
            if number is None or not self._is_new(number, state, look=True):
                continue
            try:
                record = StoredTask.open(self.folder.fs, f"{state}/{name}", name, history=False).result() or {}
            except OSError:                         # moved on by a person, who knows
                continue
            self._is_new(number, state)
            yield End(number, state, record)

    def told(self, number: int, state: str) -> None:
        """This one is known already."""
        self._is_new(number, state)

    def _is_new(self, number: int, state: str, look: bool = False) -> bool:
        """Note an end; False if it was told.  ``look``: only tell."""
        if number >= len(self._told):
            if look:
                return True
            self._told += bytes(max(4096, number + 1 - len(self._told)))
        before, code = self._told[number], 1 if state == layout.DONE else 2
        if before == 1 or before == code:
            return False
        if not look:
            self._told[number] = code
        return True

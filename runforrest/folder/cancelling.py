"""Cancelling tasks from outside: those that wait are claimed and ended here, those that run by their runner.

A waiting task is taken as a runner takes it, so that whoever else wants it, or dies over it, is dealt
with by the same rules.
"""

from __future__ import annotations

from runforrest.folder import journal, layout, requests
from runforrest.folder.leases import Membership
from runforrest.folder.settings import ensure_internal
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.names import Name

BEAT_EVERY = 50                    # tasks that are cancelled between two heartbeats


class Canceller:
    """Ends the tasks with these ids: `look` until nothing is left.

    left       ids of tasks that have not ended yet
    cancelled  ids of those that were cancelled;  ``ended``: of those that came to another end before
    """

    def __init__(self, folder: TaskFolder, ids: list[str]) -> None:
        self.folder, self.left = folder, list(ids)
        self.cancelled: list[str] = []
        self.ended: list[str] = []

    def look(self) -> list[str]:
        """One round; returns ``left``, of which the runners have been asked to end what they run."""
        waiting = [name for name in self.folder.scan(layout.TODO) if name.id in self.left]
        if waiting:
            self._cancel_waiting(waiting)
        running = {name.id for names in self.folder.claims().values() for name in names}
        for id in running.intersection(self.left):
            requests.ask(self.folder.fs, requests.CANCEL, id)
        if not running.issuperset(self.left):
            for state in (layout.FAIL, layout.DONE):
                for name in self.folder.scan(state):
                    if name.id in self.left:
                        self._has_ended(state, name)
        return self.left

    def _cancel_waiting(self, names: list[Name]) -> None:
        ensure_internal(self.folder.fs)
        membership = Membership(self.folder)
        history = journal.Journal(self.folder.fs, membership.runner)
        membership.register()
        try:
            for number, name in enumerate(names, 1):
                if number % BEAT_EVERY == 0 and not membership.beat():
                    return                      # declared dead; the next look goes on
                mine = self.folder.claim(name, membership.runner)
                if mine is None:                # a runner was quicker: it will be asked
                    continue
                record = self.folder.record_end(mine, membership.runner, outcomes.CANCELLED,
                                                "cancelled before it was started")
                if self.folder.commit(mine, membership.runner, layout.FAIL):
                    history.add(mine, layout.FAIL, record)
                    self._settle(mine.id, self.cancelled)
        finally:
            history.close()
            membership.leave()
            if not membership.peers():
                journal.tidy(self.folder.fs)

    def _has_ended(self, state: str, name: Name) -> None:
        try:
            result = StoredTask.open(self.folder.fs, f"{state}/{name}", name).result() or {}
        except OSError:
            result = {}
        self._settle(name.id, self.cancelled if result.get("outcome") == outcomes.CANCELLED else self.ended)

    def _settle(self, id: str, where: list[str]) -> None:
        if id in self.left:                     # else it was there twice
            self.left.remove(id)
            where.append(id)
        requests.withdraw(self.folder.fs, requests.CANCEL, id)

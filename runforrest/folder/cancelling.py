"""Cancelling tasks from outside: those that wait are claimed and ended here, those that run by their runner.

A waiting task is taken as a runner takes it, so that whoever else wants it, or dies over it, is dealt
with by the same rules.
"""

from __future__ import annotations

from runforrest.folder import journal, layout, requests
from runforrest.folder.gates import Gates
from runforrest.folder.leases import Membership
from runforrest.folder.settings import ensure_internal
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.names import Name

BEAT_EVERY = 50                    # tasks that are cancelled between two heartbeats


class Canceller:
    """Ends the tasks with these ids: `look` until nothing is left.

    left       ids of tasks that have not ended yet, in the order in which they were given, each with None
    cancelled  ids of those that were cancelled;  ``ended``: of those that came to another end before
    """

    def __init__(self, folder: TaskFolder, ids: list[str]) -> None:
        self.folder, self.left = folder, dict.fromkeys(ids)
        self.gates = Gates(folder)
        self.cancelled: list[str] = []
        self.ended: list[str] = []

    def look(self) -> list[str]:
        """One round; returns ``left``, of which the runners have been asked to end what they run."""
        self.cancel_dependent()
        self.cancel_unclaimed([name for name in self.folder.scan(layout.TODO) if name.id in self.left])
        running = _claimed(self.folder)
        if running.intersection(self.left):
            for id in running.intersection(self.left):
                requests.ask(self.folder.fs, requests.CANCEL, id)
            running = _claimed(self.folder)         # what has ended just now won't meet its request
        if not running.issuperset(self.left):
            for state in (layout.FAIL, layout.DONE):
                for name in self.folder.scan(state):
                    if name.id in self.left:
                        self._has_ended(state, name)
        return list(self.left)

    def cancel_dependent(self) -> None:
        """Those of ``left`` that wait for other tasks.

        Nobody claims them, and what others do with them is fenced by its rename.
        """
        found: dict[str, list[Name]] = {}
        for gate, name in self.gates.waiting.tasks():
            if name.id in self.left:
                found.setdefault(gate, []).append(name)
        for gate, names in found.items():
            for name in self.gates.end(gate, names, outcomes.CANCELLED, "cancelled while it waited for others"):
                self._settle(name.id, self.cancelled)
        if found:
            self.gates.ended()                      # what waits for these

    def cancel_unclaimed(self, names: list[Name]) -> None:
        """Those of them that are in ``todo/``."""
        if not names:
            return
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
                self.folder.force_result(mine, membership.runner)
                if self.folder.commit(mine, membership.runner, layout.FAIL):
                    self.gates.ended((mine.id, layout.FAIL))
                    history.add(mine, layout.FAIL, record)
                    self._settle(mine.id, self.cancelled)
        finally:
            history.close()
            membership.leave()
            if not membership.peers():
                journal.tidy(self.folder.fs)

    def _has_ended(self, state: str, name: Name) -> None:
        try:
            result = StoredTask.open(self.folder.fs, f"{state}/{name}", name, history=False).result() or {}
        except OSError:
            result = {}
        self._settle(name.id, self.cancelled if result.get("outcome") == outcomes.CANCELLED else self.ended)

    def _settle(self, id: str, where: list[str]) -> None:
        if id in self.left:                     # else it was there twice
            del self.left[id]
            where.append(id)
        requests.withdraw(self.folder.fs, requests.CANCEL, id)


def withdraw_met(folder: TaskFolder) -> None:
    """Take away the requests to cancel tasks that have ended: a later try of the same task was not asked about.

    Runners do it now and then, and when they leave: one that publishes a task may hear too late that it was to be
    cancelled, or may be killed before it has taken the request away.
    """
    asked = {about for what, about in requests.pending(folder.fs) if what == requests.CANCEL}
    if not asked:
        return
    ended = {name.id for state in (layout.DONE, layout.FAIL) for name in folder.scan(state) if name.id in asked}
    if ended:                                       # looked at afterwards: a person may just have put it back
        for id in ended - _claimed(folder) - {name.id for name in folder.scan(layout.TODO)}:
            requests.withdraw(folder.fs, requests.CANCEL, id)


def _claimed(folder: TaskFolder) -> set[str]:
    return {name.id for names in folder.claims().values() for name in names}

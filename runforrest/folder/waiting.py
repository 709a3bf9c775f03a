"""What waits for other tasks, and where those are.  Changes nothing; see `runforrest.folder.gates`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runforrest.folder import layout
from runforrest.folder.gate import NO_ID, is_gate
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import SUFFIX, Name

MARK = f"{NO_ID}failed"            # in the folder of a gate that will never open; its content: which predecessor
FEW = 4                            # predecessors that are looked for one by one, and not by listing everything
MOST_KNOWN = 100_000               # of one's own waiting tasks whose gates are remembered


class Waiting:
    """The waiting tasks of one list."""

    def __init__(self, folder: TaskFolder) -> None:
        self.folder, self.fs = folder, folder.fs
        self._known: dict[str, str] = {}       # gates of tasks that were scheduled here

    def tasks(self) -> Iterator[tuple[str, Name]]:
        """(gate, task) of all that wait."""
        for gate in self.gates():
            for name in self.folder.scan(f"{layout.WAITING}/{gate}"):
                yield gate, name

    def gates(self) -> list[str]:
        """The gates at which tasks wait."""
        return [gate for gate in self.fs.entries(layout.WAITING) if is_gate(gate)]

    def within(self, todo: Callable[[str], bool]) -> list[Name]:
        """The waiting tasks that wait for nothing but tasks of which ``todo`` is true, and each other."""
        left: dict[str, int] = {}
        after: dict[str, list[str]] = {}
        free: deque[str] = deque()
        for gate in self.gates():
            ids = [id for id in self.left(gate) if not todo(id)]
            left[gate] = len(ids)
            if not ids:
                free.append(gate)
            for id in ids:
                after.setdefault(id, []).append(gate)
        found: list[Name] = []
        while free:
            for name in self.folder.scan(f"{layout.WAITING}/{free.popleft()}"):
                found.append(name)
                for gate in after.pop(name.id, ()):
                    left[gate] -= 1
                    if not left[gate]:
                        free.append(gate)
        return found

    def left(self, gate: str) -> list[str]:
        """The predecessors for which a gate waits."""
        return [id for id in self.fs.entries(f"{layout.GATES}/{gate}") if id != MARK]

    def awaited(self) -> list[str]:
        """Tasks whose end somebody waits for."""
        return self.fs.entries(layout.AFTER)

    def is_failed(self, gate: str) -> bool:
        """Whether it can't open any more, as a predecessor has failed."""
        return self.fs.exists(f"{layout.GATES}/{gate}/{MARK}")

    # -- where a task is -----------------------------------------------------------------

    def remember(self, id: str, gate: str) -> None:
        """That this task was put behind this gate: `locate` looks there first."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[id] = gate

    def locate(self, ids: Sequence[str]) -> dict[str, str]:
        """The states of these tasks; those that are nowhere are missing.  Who has ended may be seen at work still."""
        if len(ids) <= FEW:
            found = {id: state for id in ids if (state := self._waits(id))}
            found.update(dict.fromkeys(self._running(set(ids) - found.keys()), layout.DOING))
            if len(found) == len(ids):
                return found
        wanted, where = set(ids), {}           # type: set[str], dict[str, str]
        for _ in range(2):                     # what was put back from doing/ to todo/ meanwhile
            for state, id in self.find(wanted):
                if where.get(id) != layout.DONE:
                    where[id] = state
            if len(where) == len(wanted):
                break
        return where

    def _waits(self, id: str) -> str:
        """'todo' or 'waiting' if it was never begun and is where its scheduler has put it; else ''."""
        if self.fs.exists(f"{layout.TODO}/{id}{SUFFIX}"):
            return layout.TODO
        gate = self._known.get(id)
        return layout.WAITING if gate and self.fs.exists(f"{layout.WAITING}/{gate}/{id}{SUFFIX}") else ""

    def _running(self, ids: set[str]) -> Iterator[str]:
        """Those that are claimed, and certainly so: a listing may be old."""
        for runner, names in self.folder.claims().items() if ids else ():
            for name in names:
                if name.id in ids and self.fs.exists(f"{layout.DOING}/{runner}/{name}"):
                    yield name.id

    def find(self, wanted: set[str], states: Sequence[str] = layout.EVERYWHERE) -> Iterator[tuple[str, str]]:
        """(state, id) of the wanted tasks, in the order in which tasks move."""
        for state in states:
            folders = ([f"{state}/{each}" for each in self.fs.entries(state)]
                       if state in layout.NESTED else [state])
            for folder in folders:
                for name in self.folder.scan(folder):
                    if name.id in wanted:
                        yield state, name.id

    # -- whether it is worth waiting -----------------------------------------------------

    def outlook(self, wanted: Callable[[Name], bool] | None = None) -> tuple[bool, str]:
        """(whether what waits may still be let go, if not why) for the tasks that are wanted; (False, '') if none wait.

        To be asked after `sweep`.
        """
        gates = {gate: sum(wanted is None or wanted(name) for name in self.folder.scan(f"{layout.WAITING}/{gate}"))
                 for gate in self.gates()}
        if not any(gates.values()):
            return False, ""
        hopeless = self.hopeless()
        if any(number and gate not in hopeless for gate, number in gates.items()):
            return True, ""
        number, missing = sum(gates.values()), next(hopeless[gate] for gate, number in gates.items() if number)
        return False, (f"{number} task{'s' * (number != 1)} in {layout.WAITING}/ wait{'s' * (number == 1)} for what is "
                       f"not in the list any more, as {missing}; `runforrest doctor --repair` tells, and ends them")

    def hopeless(self) -> dict[str, str]:
        """Gates that nobody's work will open, each with a predecessor that is nowhere in the list."""
        left = {gate: self.left(gate) for gate in self.gates()}
        wanted = {id for ids in left.values() for id in ids}
        where: dict[str, str] = {}
        for _ in range(2):
            where.update((id, state) for state, id in self.find(wanted))
        at = {name.id: gate for gate, name in self.tasks() if name.id in wanted}
        bad = {gate: id for gate, ids in left.items() for id in ids if id not in where}
        after: dict[str, list[str]] = {}       # by the gate that has a task that they wait for
        for gate, ids in left.items():
            for id in ids:
                if where.get(id) == layout.WAITING and id in at:
                    after.setdefault(at[id], []).append(gate)
        new = deque(bad)
        while new:
            gate = new.popleft()
            for following in after.get(gate, ()):
                if following not in bad:
                    bad[following] = bad[gate]
                    new.append(following)
        return bad

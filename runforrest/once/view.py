"""What a listing of a folder of keys has shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runforrest.once import names
from runforrest.once.names import State


class Shard:
    """The keys of one folder, as they were when it was listed, with what this process has done since.

    done      quoted keys that are done for good, once it is `compact`
    doubtful  quoted keys with state files of several lineages: the anchor says which one counts
    listed    when that was, in monotonic seconds; ``cost``: how long it took
    lost      a claim here was lost to somebody since
    """

    def __init__(self, name: str, entries: Iterable[str] = ()) -> None:
        self.name = name
        self.listed = self.cost = 0.0
        self.lost = False
        self.done: set[str] = set()
        self._compact = False
        self.doubtful: dict[str, list[State]] = {}
        self._states: dict[str, State] = {}
        self._read(entries)

    def _read(self, entries: Iterable[str]) -> None:
        anchors = set()
        for entry in entries:
            state = names.parse(entry)
            if state is None:
                anchors.add(entry)
                continue
            before = self._states.get(state.quoted)
            if before is not None and before.lineage != state.lineage:
                self.doubtful.setdefault(state.quoted, [before]).append(state)
            elif before is None or state.rank > before.rank:
                self._states[state.quoted] = state
        for quoted in self._states.keys() - anchors:        # nobody has come to the anchor yet: these don't count
            del self._states[quoted]
            self.doubtful.pop(quoted, None)
        for quoted in self.doubtful:
            del self._states[quoted]

    def state(self, quoted: str) -> State | None:
        return self._states.get(quoted)

    def states(self) -> Iterator[State]:
        return iter(self._states.values())

    def set(self, state: State) -> None:
        """What is known now, if it is news."""
        if self._compact and state.code in names.FOR_GOOD:
            self.done.add(state.quoted)
            self._states.pop(state.quoted, None)
            return
        before = self._states.get(state.quoted)
        if before is None or before.lineage != state.lineage or state.rank >= before.rank:
            self._states[state.quoted] = state

    def compact(self) -> None:
        """Forget all but the names of keys that are done: a process may have to remember a million."""
        self._compact = True
        self.done.update(quoted for quoted, state in self._states.items() if state.code in names.FOR_GOOD)
        self._states = {quoted: state for quoted, state in self._states.items() if quoted not in self.done}

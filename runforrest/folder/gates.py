"""Dependencies between the tasks of a list: who waits for whom, and who lets them go.

A task that must wait is in ``waiting/<gate>/``.  A gate stands for a set of predecessors: the same set, the same
gate.  In ``.runforrest/gates/<gate>/`` is an entry for each of them that has not ended, and
``.runforrest/after/<predecessor>/<gate>`` is the way back, so that whoever ends a predecessor finds its gates.

* A gate is open when its folder in ``gates/`` is gone.  It goes by `rmdir`, which fails while there is an entry.
* A predecessor that failed leaves its entry there for ever, and a mark beside it: such a gate never opens.
* Who schedules makes the entries first and looks whether the predecessors have ended then; who ends one looks for
  entries afterwards: one of the two sees the other.  What nobody saw, as its process died, `sweep` finds.
* Every step is a create, rename, unlink or rmdir of which a second one does no harm, so anybody may repeat them all.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runforrest.errors import InvalidArgument, NoSuchTask
from runforrest.folder import entries, identity, layout, settings, signing
from runforrest.folder.attempts import create_internal, force_record, new_tag, side_file
from runforrest.folder.frames import encode
from runforrest.folder.gate import ANYHOW, Gate, gate_of, is_gate, is_id
from runforrest.folder.stored import ATTEMPT, StoredTask, side_records
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import MARK, Waiting
from runforrest.model import outcomes
from runforrest.model.names import TAG_LENGTH, TAGS, Name

if TYPE_CHECKING:
    from runforrest.folder.frames import Record

TOGETHER = 1000                    # records that are forced together
ENDED = (layout.DONE, layout.FAIL)


class Gates:
    """The gates of one list.

    settled   tasks that were moved to fail/, since one that they wait for has failed
    opened    how many tasks were moved to todo/
    """

    def __init__(self, folder: TaskFolder) -> None:
        self.folder, self.fs, self.waiting = folder, folder.fs, Waiting(folder)
        self.settled: deque[tuple[Name, str]] = deque()
        self.opened = 0
        self._ends: deque[tuple[str, str]] = deque()

    # -- scheduling ----------------------------------------------------------------------

    def close(self, gate: Gate) -> bool:
        """Make the gate, unless all that it stands for has ended as it should: then False, and nothing is made.

        Raises NoSuchTask if a predecessor is nowhere in the list, OSError.
        """
        where = self.waiting.locate(gate.ids)
        unknown = [id for id in gate.ids if id not in where]
        if unknown:
            raise NoSuchTask(f"after: there is no task and no group {unknown[0]!r} in {self.fs.root}"
                             f"{f' (nor {len(unknown) - 1} more)' if len(unknown) > 1 else ''}",
                             directory=self.fs.root, matches=[])
        left = [id for id in gate.ids if where[id] != layout.DONE
                and not (gate.even_if_failed and where[id] == layout.FAIL)]
        if not left:
            return False
        self._close(gate, left)
        for id, state in self.waiting.locate(left).items():        # from now on nobody who ends can miss it
            if state in ENDED:
                self._pass(gate.name, id, state)           # the way back may have been used, and removed, already
                self.ended((id, state))
        return True

    def _close(self, gate: Gate, left: Iterable[str]) -> None:
        entries.make_folder(self.fs, layout.WAITING)    # first of all: only where it is does anybody look for gates
        entries.make_folder(self.fs, f"{layout.GATES}/{gate.name}")
        for id in left:
            entries.enter(self.fs, f"{layout.GATES}/{gate.name}", id)      # first: who finds the way back finds this
            entries.make_folder(self.fs, f"{layout.AFTER}/{id}")
            entries.enter(self.fs, f"{layout.AFTER}/{id}", gate.name)
        self.fs.unlink(f"{layout.GATES}/{gate.name}/{MARK}")    # what holds is found out anew
        tmp = f"{gate.name}.{new_tag()}"
        create_internal(self.fs, layout.TMP, tmp, [gate.definition()])
        entries.make_folder(self.fs, layout.SETS)
        self.fs.rename(f"{layout.TMP}/{tmp}", f"{layout.SETS}/{gate.name}")
        entries.make_folder(self.fs, f"{layout.WAITING}/{gate.name}")

    def publish(self, gate: Gate, id: str, call: bytes, envelope: dict[str, object]) -> Name:
        """Put a task behind a gate that `close` has made.  Raises OSError; then it is not there."""
        place = f"{layout.WAITING}/{gate.name}"
        try:
            name = self.folder.schedule(id, call, envelope, where=place)
        except FileNotFoundError:              # it has been opened, and its folder removed
            entries.make_folder(self.fs, place)
            name = self.folder.schedule(id, call, envelope, where=place)
        self.waiting.remember(id, gate.name)
        try:
            self.look_at(gate.name)
        except OSError:                        # it is published: whoever sweeps goes on
            pass
        return name

    # -- the end of a predecessor ----------------------------------------------------------

    def ended(self, *ends: tuple[str, str]) -> None:
        """Tasks, each an id and 'done' or 'fail', have ended for good: let go, or end, what waits for them.

        Raises OSError; then it, or `sweep`, must be called again.
        """
        self._ends.extend(ends)
        while self._ends:
            id, state = self._ends[0]
            if is_id(id):
                for gate in filter(is_gate, self.fs.entries(f"{layout.AFTER}/{id}")):
                    self._pass(gate, id, state)
                self._remove(f"{layout.AFTER}/{id}")
            self._ends.popleft()

    def _pass(self, gate: str, id: str, state: str) -> None:
        if state == layout.FAIL and not gate.endswith(ANYHOW):
            self._mark(gate, id)
            self._fail(gate)
        elif entries.is_folder(self.fs, f"{layout.GATES}/{gate}"):
            self.fs.unlink(f"{layout.GATES}/{gate}/{id}")
            if self._remove(f"{layout.GATES}/{gate}"):
                self._open(gate)
        else:
            self._open(gate)                   # by another, who may have died over it
        self.fs.unlink(f"{layout.AFTER}/{id}/{gate}")

    def _mark(self, gate: str, id: str) -> None:
        try:
            self.fs.create(f"{layout.GATES}/{gate}/{MARK}", [id.encode("utf-8", "surrogateescape")])
        except (FileExistsError, FileNotFoundError):   # marked already; or open, or removed by a person
            pass

    def _remove(self, folder: str) -> bool:
        """False if there is something in it."""
        try:
            self.fs.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True

    def look_at(self, gate: str) -> None:
        """Go on with what somebody may have left half done, or put there when it was over."""
        if self.waiting.is_failed(gate):
            self._fail(gate)
            self.ended()
        elif not self.fs.exists(f"{layout.GATES}/{gate}"):
            self._open(gate)

    def _batches(self, gate: str) -> Iterator[list[Name]]:
        """What waits at a gate, until its folder could be removed."""
        place = f"{layout.WAITING}/{gate}"
        while True:
            names = list(self.folder.scan(place))
            if names:
                yield names
            elif self._remove(place) or not any(self.folder.scan(place)):   # else a foreign file is in it
                return

    def _open(self, gate: str) -> None:
        """Whether it is open is looked at after each listing: if it was made anew, they wait behind the new one."""
        for names in self._batches(gate):
            if self.fs.exists(f"{layout.GATES}/{gate}"):
                return
            for name in names:
                self.opened += self.folder.move(f"{layout.WAITING}/{gate}/{name}", f"{layout.TODO}/{name}")
        self.fs.unlink(f"{layout.SETS}/{gate}")

    def _fail(self, gate: str) -> None:
        mark = f"{layout.GATES}/{gate}/{MARK}"
        for names in self._batches(gate):
            try:
                who = self.fs.read(mark).decode("utf-8", "replace")
            except FileNotFoundError:          # somebody tries again
                return
            message = f"not run, as {who or 'a task'}, which it waited for, has failed"
            self.settled.extend((name, layout.FAIL)
                                for name in self.end(gate, names, outcomes.DEPENDENCY_FAILED, message))

    # -- waiting tasks that are ended ------------------------------------------------------

    def end(self, gate: str, names: Sequence[Name], outcome: str, message: str) -> list[Name]:
        """Move waiting tasks to fail/, with a record beside them, and return their new names.

        Whoever else does so chooses the same names, and nobody writes to their files, so it may be done twice.
        """
        moved = []
        for at in range(0, len(names), TOGETHER):
            pairs = [(name, _ended_name(gate, name, outcome)) for name in names[at:at + TOGETHER]]
            for _, new in pairs:
                self._write_record(new, outcome, message)
            self._force([side_file(new) for _, new in pairs])
            for name, new in pairs:
                if self.folder.move(f"{layout.WAITING}/{gate}/{name}", f"{layout.FAIL}/{new}"):
                    moved.append(new)
                    self._ends.append((name.id, layout.FAIL))
                else:
                    self.fs.unlink(side_file(new))
        self.folder.force_published(layout.FAIL)
        return moved

    def _write_record(self, name: Name, outcome: str, message: str) -> None:
        record: Record = {"frame": ATTEMPT, "attempt": name.attempt, "number": name.tries, "outcome": outcome,
                          "host": identity.hostname(), "ended": settings.now_text(), "message": message}
        key = self.fs.trust.key
        chunks = encode(key.signed(signing.RESULT, name.id, record, b"") if key else record, b"")
        try:
            create_internal(self.fs, layout.TRIES, name.side(), chunks)
        except FileExistsError:                # by another who does the same; or by one who died while writing it
            if not any(found.get("attempt") == name.attempt for found in side_records(self.fs, name, history=False)):
                self.fs.unlink(side_file(name))
                create_internal(self.fs, layout.TRIES, name.side(), chunks)

    def _force(self, files: Sequence[str]) -> None:
        if not self.folder.settings.force_results:
            return
        if self.folder.local:
            self.fs.force_all()
        else:
            for file in files:
                force_record(self.fs, file)

    # -- what nobody saw -------------------------------------------------------------------

    def sweep(self) -> None:
        """Look for predecessors that have ended, and gates that are open, of which nobody took notice.

        Lists done/ and fail/ once, if there is anything to look for.  Raises OSError.
        """
        self.ended()                           # what an error has interrupted
        awaited, gates = set(filter(is_id, self.waiting.awaited())), self.waiting.gates()
        entered: dict[str, list[str]] = {}
        for gate in gates:
            for id in self.waiting.left(gate):
                entered.setdefault(id, []).append(gate)
        wanted = awaited.union(filter(is_id, entered))
        ended = {id: state for state, id in self.waiting.find(wanted, (layout.FAIL, layout.DONE))} if wanted else {}
        for id, state in ended.items():
            for gate in entered.get(id, ()):
                self._pass(gate, id, state)
            self.ended((id, state))
        for gate in gates:
            if not entries.is_folder(self.fs, f"{layout.GATES}/{gate}") or self._remove(f"{layout.GATES}/{gate}"):
                self._open(gate)
            else:
                self.look_at(gate)

    # -- trying again ------------------------------------------------------------------------

    def requeue(self, names: Iterable[Name]) -> list[tuple[str, Name]]:
        """Put failed tasks back: into todo/, or, if they failed as a predecessor had, behind their gate.

        Returns ('todo' or 'waiting', task) for each that was moved, as it was moved; what waits is then looked at, so
        it may be in todo/ or fail/ again.
        """
        moved: list[tuple[str, Name]] = []
        dependent: list[tuple[Name, Gate]] = []
        gated = self.fs.exists(layout.WAITING) or self.fs.exists(layout.SETS)
        for name in names:                     # all others first: those that are waited for are in todo/ again
            gate = self._gate_before(name) if gated else None
            if gate is not None:
                dependent.append((name, gate))
            elif self.folder.requeue(name, layout.FAIL):
                moved.append((layout.TODO, name))
        for gate in {gate.name: gate for _, gate in dependent}.values():
            self._close(gate, gate.ids)
        for name, gate in dependent:
            if self.folder.move(f"{layout.FAIL}/{name}", f"{layout.WAITING}/{gate.name}/{name}"):
                moved.append((layout.WAITING, name))
        if dependent:
            self.sweep()
        return moved

    def _gate_before(self, name: Name) -> Gate | None:
        """The gate behind which a failed task has been waiting when it failed."""
        try:
            task = StoredTask.open(self.fs, f"{layout.FAIL}/{name}", name, history=False)
        except FileNotFoundError:
            return None
        result = task.result()
        if result is not None and result.get("outcome") != outcomes.DEPENDENCY_FAILED:
            return None                        # without a result it is better to look whether it must wait
        return self.gate_in(task.envelope)

    def gate_in(self, envelope: Record) -> Gate | None:
        """The gate that an envelope names, with all its predecessors; None if it is not known what they were."""
        after = envelope.get("after")
        if not isinstance(after, dict) or not is_gate(after.get("gate")):
            return None
        name = str(after["gate"])
        ids: object = after.get("ids")
        if ids is None:
            try:
                ids = self.fs.read(f"{layout.SETS}/{name}").decode("utf-8", "surrogateescape").splitlines()
            except FileNotFoundError:
                return None
        try:
            gate = gate_of(ids if isinstance(ids, list) else [], name.endswith(ANYHOW))
        except (InvalidArgument, TypeError):
            return None
        return gate if gate.name == name else None


def _ended_name(gate: str, name: Name, outcome: str) -> Name:
    """The same for all who end this task at this gate."""
    import hashlib  # late: few need it, and it takes its time
    digest = hashlib.sha256(f"{gate} {name} {outcome}".encode("utf-8", "surrogateescape")).digest()
    return name.claimed("".join(TAGS[byte % 36] for byte in digest[:TAG_LENGTH]))

"""What the tests of the folder share: lists to play with, and file operations that go wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from runforrest.folder import attempts, layout, settings
from runforrest.folder.fsio import FileOps
from runforrest.folder.gate import gate_of
from runforrest.folder.gates import Gates
from runforrest.folder.leases import Membership
from runforrest.folder.settings import LEAST_LEASE, Settings
from runforrest.folder.stored import ATTEMPT, ENVELOPE, StoredTask, side_ending
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name


class Recording(FileOps):
    """Remembers every operation, as ('rename', 'todo/x.pkl', …)."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.calls: list[tuple[object, ...]] = []
        super().__init__(root)

    def before(self, operation: str, *args: object) -> None:
        self.calls.append((operation, *args))

    def count(self, operation: str) -> int:
        return sum(call[0] == operation for call in self.calls)

    def of(self, *operations: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] in operations]


class Failing(FileOps):
    """Raises ``error`` at the operations that ``when`` chooses; ``after``: once they have taken place."""

    def __init__(self, root: str | os.PathLike[str], error: BaseException, when: Callable[..., bool],
                 after: bool = False) -> None:
        super().__init__(root)
        self.error, self.when, self.late = error, when, after
        self.failed = 0

    def before(self, operation: str, *args: object) -> None:
        if not self.late:
            self._maybe(operation, *args)

    def after(self, operation: str, *args: object) -> None:
        if self.late:
            self._maybe(operation, *args)

    def _maybe(self, operation: str, *args: object) -> None:
        if self.when(operation, *args):
            self.failed += 1
            raise self.error


def make(root: str | os.PathLike[str], durability: str = "none", fs: FileOps | None = None) -> TaskFolder:
    """A new list there; ``fs`` for everything after its making."""
    made = settings.create(FileOps(root), durability)
    return TaskFolder(fs or FileOps(root), made)


def lease_of(lease: int, settings: Settings | None = None) -> Settings:
    """The settings with a lease as short as no list may have: 0 for 'whoever can be seen is dead'."""
    made = replace(settings or Settings(), lease=max(LEAST_LEASE, lease))
    object.__setattr__(made, "lease", lease)
    return made


def with_lease(folder: TaskFolder, lease: int, fs: FileOps | None = None) -> TaskFolder:
    """The same list with another lease."""
    return TaskFolder(fs or folder.fs, lease_of(lease, folder.settings))


def schedule(folder: TaskFolder, id: str, **limits: Any) -> Name:
    envelope: dict[str, object] = {"frame": ENVELOPE, "id": id, "limits": limits}
    return folder.schedule(id, call_of(id), envelope)


def schedule_after(folder: TaskFolder, id: str, *after: str, even_if_failed: bool = False) -> Name:
    """Behind a gate, if what it waits for is not done."""
    gates, gate = Gates(folder), gate_of(after, even_if_failed)
    closed = gates.close(gate)
    envelope: dict[str, object] = {"frame": ENVELOPE, "id": id, "after": gate.to_json()}
    return (gates.publish(gate, id, call_of(id), envelope) if closed
            else folder.schedule(id, call_of(id), envelope))


def call_of(id: str) -> bytes:
    return b"call of " + id.encode()


def result_of(id: str) -> bytes:
    return b"result of " + id.encode()


def runner(folder: TaskFolder, name: str) -> Membership:
    member = Membership(folder, name)
    member.register()
    return member


def finish(folder: TaskFolder, name: Name, runner: str, outcome: str = "returned",
           payload: bytes | None = None) -> None:
    """What the child does at the end of an attempt: its frame."""
    write(folder.fs, f"doing/{runner}/{name}", name, runner, outcome, payload)


def write(fs: FileOps, path: str, name: Name, runner: str = "R", outcome: str = "returned",
          payload: bytes | None = None, cut: int | None = None) -> None:
    record = {"frame": ATTEMPT, "attempt": name.attempt, "number": name.tries, "outcome": outcome, "runner": runner,
              "payload": "value"}
    attempts.write_attempt(fs, path, name, record, result_of(name.id) if payload is None else payload, cut)


def claim(folder: TaskFolder, name: Name, runner: str) -> Name:
    mine = folder.claim(name, runner)
    assert mine is not None
    return mine


def places(root: str | os.PathLike[str]) -> dict[str, list[str]]:
    """In which folders each task is, by id: what a person sees with ``ls``."""
    found: dict[str, list[str]] = {}
    folders = [layout.TODO, layout.DONE, layout.FAIL]
    for nested in layout.NESTED:
        above = Path(root, nested)
        if above.is_dir():
            folders += [f"{nested}/{each.name}" for each in above.iterdir() if each.is_dir()]
    for folder in folders:
        path = Path(root, folder)
        for entry in os.listdir(path) if path.is_dir() else []:
            name = Name.parse(entry)
            if name is not None:
                found.setdefault(name.id, []).append(folder)
    return found


def ls(root: str | os.PathLike[str], folder: str) -> list[str]:
    return sorted(os.listdir(Path(root, folder)))


def tree(root: str | os.PathLike[str]) -> Counter[str]:
    """Every file below root."""
    return Counter(str(path.relative_to(root)) for path in Path(root).rglob("*") if not path.is_dir())


def payload_of(fs: FileOps, path: str, name: Name) -> bytes | None:
    """The result of the try that the name states, from wherever it is."""
    fd = fs.open_read(path)
    try:
        found = StoredTask.read(fd, name).payload(fd)
    finally:
        os.close(fd)
    return side_ending(fs, name)[1] if found is None else found

"""What may be on a disk after its power was cut, from a record of what the product did to it.

A run with the product's own code is recorded as operations on names, data and forced writes.  A disk is then
one of the states that these models allow:

ordered    operations on names survive in their order up to some point, and every fsync forces all of them so
           far: ext4, XFS.  Data that was not forced is lost, torn, zeros, or there.
loose      the order is kept for each file alone.  fsync of a file forces its data and its names, fsync of a
           folder the names in it, syncfs everything: btrfs, f2fs, and what else a filesystem may come up with.

Not covered: filesystems without a journal, and disks that lie about having written.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from runforrest.folder.fsio import FileOps

MODELS = ("ordered", "loose")
NAMES = ("create", "rename", "unlink", "mkdir", "rmdir")
LUCKS = ("lost", "torn", "zeros", "there")


@dataclass(frozen=True)
class Operation:
    """kind: one of NAMES, ``data``, ``fsync``, ``fsync folder``, ``syncfs``, or ``promise``."""

    kind: str
    file: int = 0                       # which file it is, whatever its name
    names: tuple[str, ...] = ()
    data: bytes = b""


@dataclass
class Disk:
    """What is there after the cut."""

    names: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    data: dict[int, bytes] = field(default_factory=dict)

    def build(self, root: Path) -> None:
        for folder in (*sorted(self.folders), *(os.path.dirname(name) for name in self.names)):
            os.makedirs(root / folder, mode=0o700, exist_ok=True)
        for name, file in self.names.items():
            (root / name).write_bytes(self.data.get(file, b""))

    def key(self) -> object:
        return frozenset((name, self.data.get(file, b"")) for name, file in self.names.items())


class Recorder(FileOps):
    """Does everything, and keeps a log of it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.log: list[Operation] = []
        self._files: dict[str, int] = {}
        self._made = 0

    def promise(self, *what: str) -> None:
        self.log.append(Operation("promise", names=what))

    def before(self, operation: str, *args: Any) -> None:
        if operation == "create":
            self._made += 1
            self._files[args[0]] = self._made
            self.log.append(Operation("create", self._made, args))
        elif operation == "write":
            self.log.append(Operation("data", self._files[args[0]], data=b"".join(args[1])))
        elif operation == "syncfs":
            self.log.append(Operation("syncfs"))
        elif operation == "fsync":
            file = self._files.get(args[0])
            self.log.append(Operation("fsync", file) if file else Operation("fsync folder", names=(args[0],)))

    def after(self, operation: str, *args: Any) -> None:
        if operation in ("mkdir", "rmdir"):
            self.log.append(Operation(operation, -1 - crc32(args[0].encode()), args))
        elif operation == "unlink" and args[0] in self._files:     # else a lock, which is another library's
            self.log.append(Operation("unlink", self._files.pop(args[0]), args))
        elif operation == "rename":
            file = self._files[args[1]] = self._files.pop(args[0])
            self.log.append(Operation("rename", file, args))


def cut(log: list[Operation], model: str, chance: random.Random, most: int) -> Iterator[Disk]:
    """What may be on the disk when its power is cut after these operations; ``most``: of combinations of names."""
    forced, written = _forced(log, model)
    for kept in _kept(log, model, forced, chance, most):
        for data in _data(log, written, chance):
            yield _disk(kept, data)


def _forced(log: list[Operation], model: str) -> tuple[dict[int, int], dict[int, int]]:
    """Up to which operation the names, and the data, of each file have been forced."""
    names: dict[int, int] = {}
    data: dict[int, int] = {}
    for at, operation in enumerate(log):
        if operation.kind == "syncfs":
            data.update({each.file: at for each in log[:at] if each.file})
        elif operation.kind == "fsync":
            data[operation.file] = at
        if operation.kind == "syncfs" or (model == "ordered" and operation.kind.startswith("fsync")):
            names.update({each.file: at for each in log[:at] if each.kind in NAMES})
        elif operation.kind == "fsync":
            names[operation.file] = at
        elif operation.kind == "fsync folder":
            for number, each in enumerate(log[:at]):
                if each.kind in NAMES and operation.names[0] in map(os.path.dirname, each.names):
                    names[each.file] = max(number, names.get(each.file, -1))
    return names, data


def _kept(log: list[Operation], model: str, forced: dict[int, int], chance: random.Random,
          most: int) -> Iterator[list[Operation]]:
    """Which operations on names have survived."""
    on_names = [(at, each) for at, each in enumerate(log) if each.kind in NAMES]
    if model == "ordered":
        least = sum(at <= forced.get(each.file, -1) for at, each in on_names)
        for number in range(least, len(on_names) + 1):
            yield [each for _, each in on_names[:number]]
        return
    choices = []
    for file in sorted({each.file for _, each in on_names}):
        own = [(at, each) for at, each in on_names if each.file == file]
        least = sum(at <= forced.get(file, -1) for at, _ in own)
        choices.append([own[:number] for number in range(least, len(own) + 1)])
    picks: Iterable[tuple[Any, ...]] = itertools.islice(itertools.product(*choices), most + 1)
    picks = list(picks)
    if len(picks) > most:                       # the extremes, and some between them
        picks = [tuple(c[0] for c in choices), tuple(c[-1] for c in choices),
                 *(tuple(map(chance.choice, choices)) for _ in range(most))]
    for pick in picks:
        yield [each for _, each in sorted(itertools.chain(*pick), key=lambda pair: pair[0])]


def _data(log: list[Operation], written: dict[int, int], chance: random.Random) -> Iterator[dict[int, bytes]]:
    """The contents of the files: what was forced, and of the rest what luck will have."""
    safe: dict[int, bytes] = {}
    rest: dict[int, bytes] = {}
    for at, each in enumerate(log):
        if each.kind == "data":
            kind = safe if at <= written.get(each.file, -1) else rest
            kind[each.file] = kind.get(each.file, b"") + each.data
    if not rest:
        yield safe
        return
    for luck in LUCKS:
        yield {**safe, **{file: safe.get(file, b"") + _some(data, luck) for file, data in rest.items()}}
    yield {**safe, **{file: safe.get(file, b"") + _some(data, chance.choice(LUCKS)) for file, data in rest.items()}}


def _some(data: bytes, luck: str) -> bytes:
    return {"lost": b"", "torn": data[:len(data) // 2], "zeros": bytes(len(data)), "there": data}[luck]


def _disk(kept: list[Operation], data: dict[int, bytes]) -> Disk:
    disk = Disk()
    for each in kept:
        if each.kind == "mkdir":
            disk.folders.add(each.names[0])
        elif each.kind == "rmdir":
            disk.folders.discard(each.names[0])
        elif each.kind == "rename":
            disk.names.pop(each.names[0], None)
            disk.names[each.names[1]] = each.file
        elif each.kind == "unlink":
            disk.names.pop(each.names[0], None)
        else:
            disk.names[each.names[0]] = each.file
    disk.data = {file: data.get(file, b"") for file in disk.names.values()}
    return disk

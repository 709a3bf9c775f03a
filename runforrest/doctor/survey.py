"""Reading all of a list, for what may be wrong with it.  Nothing is changed, and nobody's code is run."""

from __future__ import annotations

import errno
import os
import pickletools
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from runforrest.doctor.probe import SCRATCH
from runforrest.errors import FormatVersionError, NotATaskList
from runforrest.folder import frames, identity, layout, requests
from runforrest.folder.fsio import FileOps
from runforrest.folder.gate import is_gate
from runforrest.folder.leases import DEAD, ORPHAN, Membership, read_heartbeat
from runforrest.folder.settings import Settings, open_list
from runforrest.folder.stored import ATTEMPT, ENVELOPE, StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import Waiting
from runforrest.model.names import SUFFIX, Name, is_sequence

CHECKED = 1 << 24                  # bytes of a pickle whose checksum is verified; larger ones are believed
WHOLE, BARE, TORN = "whole", "bare", "torn"
ALIVE, GONE, UNKNOWN, NOBODY = "alive", "dead", "unknown", "none"


@dataclass(frozen=True)
class Copy:
    """A file that is named like a task.

    shape     whole: it has its envelope; bare: a pickle that a person put there; torn: neither, and ``why``
    attempts  those that have left their record in this file
    outcome   of the try that its name states, from this file or from tries/; '' if there is no such record
    damaged   the result of that try does not fit its checksum
    inode     device and number; ``links``: names that the file has
    """

    state: str
    name: Name
    runner: str = ""
    shape: str = WHOLE
    why: str = ""
    attempts: tuple[str, ...] = ()
    outcome: str = ""
    damaged: bool = False
    size: int = 0
    changed: int = 0
    inode: tuple[int, int] = (0, 0)
    links: int = 1

    @property
    def path(self) -> str:
        return "/".join(filter(None, (self.state, self.runner, str(self.name))))

    @property
    def stamp(self) -> tuple[int, int, tuple[int, int]]:
        """Different if the file has been written to, or replaced."""
        return self.size, self.changed, self.inode


@dataclass(frozen=True)
class Peer:
    """A runner that has a heartbeat or a folder.  ``state``: alive, dead (proven), unknown, none (no heartbeat)."""

    name: str
    state: str
    number: str
    host: str = ""
    tasks: int = 0


@dataclass(frozen=True)
class Leftover:
    """A file in tmp/.  ``whole``: a complete task; ``age``: seconds since it was written, as far as clocks agree."""

    path: str
    whole: bool
    age: float


@dataclass(frozen=True)
class Request:
    """``what`` is asked of a runner, or of a task; ``about`` is '' for all runners.  ``age``: as of a `Leftover`."""

    what: str
    about: str
    age: float


@dataclass
class Picture:
    """Everything that was found.

    settings_state  '' if they are fine, else 'missing' or 'damaged'
    missing         folders that should be there
    foreign         (path, what it is) of what is no task's
    sides           files in tries/ of tasks that are nowhere
    hopeless        gates that nobody's work opens: how many tasks wait there, and for one that is nowhere in the list
    set_aside       how many files are in dup/
    open_to_others  (folder, mode) that others may write to
    """

    root: str
    settings: Settings
    settings_state: str = ""
    missing: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    foreign: list[tuple[str, str]] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    hopeless: list[tuple[str, int, str]] = field(default_factory=list)
    set_aside: int = 0
    open_to_others: list[tuple[str, int]] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)


def survey(fs: FileOps) -> Picture:
    """Read the list.  Raises NotATaskList, FormatVersionError, OSError."""
    settings, problem = _settings(fs)
    picture = Picture(fs.root, settings, problem)
    picture.missing = [state for state in (layout.TODO, layout.DONE, layout.FAIL)
                       if not os.path.isdir(fs.path(state))]
    picture.requests = list(_requests(fs))      # before the runners and tasks that they may be about
    for state in (layout.TODO, layout.DONE, layout.FAIL):
        for entry in fs.entries(state):
            _sort_in(fs, picture, state, entry)
    _look_at_gates(fs, picture)
    picture.peers = list(_peers(TaskFolder(fs, settings)))
    for peer in picture.peers:
        for entry in fs.entries(f"{layout.DOING}/{peer.name}"):
            _sort_in(fs, picture, layout.DOING, entry, peer.name)
    picture.leftovers = [left for entry in fs.entries(layout.TMP) if (left := _leftover(fs, entry))]
    picture.sides = list(_without_task(fs, {copy.name.id for copy in picture.copies}))
    picture.set_aside = len(fs.entries(layout.DUP))
    picture.open_to_others = list(_open_to_others(fs, settings.group))
    picture.scratch = sorted(n for n in os.listdir(fs.root) if n.startswith(SCRATCH + "."))
    return picture


def _settings(fs: FileOps) -> tuple[Settings, str]:
    try:
        return open_list(fs), "" if fs.exists(layout.SETTINGS) else "missing"
    except FormatVersionError:
        raise
    except NotATaskList as error:
        if error.kind or not os.path.lexists(fs.path(layout.SETTINGS)):
            raise
        return Settings(), "damaged"


# -- tasks -------------------------------------------------------------------------------


def _look_at_gates(fs: FileOps, picture: Picture) -> None:
    waiting = Waiting(TaskFolder(fs, picture.settings))
    for entry in fs.entries(layout.WAITING):
        if not is_gate(entry) or not _is_folder(fs, f"{layout.WAITING}/{entry}"):
            picture.foreign.append((f"{layout.WAITING}/{entry}", "no gate"))
            continue
        for file in fs.entries(f"{layout.WAITING}/{entry}"):
            _sort_in(fs, picture, layout.WAITING, file, entry)
    for gate, missing in waiting.hopeless().items():
        number = sum(copy.runner == gate for copy in picture.copies)
        if number:
            picture.hopeless.append((gate, number, missing))


def _is_folder(fs: FileOps, path: str) -> bool:
    return os.path.isdir(fs.path(path)) and not os.path.islink(fs.path(path))


def _sort_in(fs: FileOps, picture: Picture, state: str, entry: str, runner: str = "") -> None:
    path = "/".join(filter(None, (state, runner, entry)))
    name = Name.parse(entry)
    if name is None:
        log = Name.parse(layout.task_of_log(entry))
        if log is None or not log.tries:
            picture.foreign.append((path, "a folder" if os.path.isdir(fs.path(path)) else "no name of a task"))
        return
    try:
        picture.copies.append(look_at(fs, state, name, runner))
    except FileNotFoundError:
        pass                               # it has moved on
    except IsADirectoryError:
        picture.foreign.append((path, "a folder"))
    except OSError as error:
        link = error.errno == errno.ELOOP
        picture.foreign.append((path, "a symbolic link" if link else error.strerror or str(error)))


def look_at(fs: FileOps, state: str, name: Name, runner: str = "") -> Copy:
    """What this file is.  Raises OSError."""
    fd = fs.open_read("/".join(filter(None, (state, runner, str(name)))))
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder")
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "a pipe, or a device: no file")
        found = list(frames.backwards(fd))
        shape, why = _shape(fd, name, found)
        records = [(f, f.record) for f in found if f.record.get("frame") == ATTEMPT]
        own = next(((f, r) for f, r in records if r.get("attempt") == name.attempt), None)
        damaged = own is not None and own[0].payload_length <= CHECKED and own[0].payload(fd) is None
    finally:
        os.close(fd)
    result = own[1] if own else None
    if own is None and name.tries:
        task = StoredTask(name, found[::-1], info.st_size)
        task.add_side_records(fs, history=False)
        result = task.result()
    return Copy(state, name, runner, shape, why, tuple(str(r.get("attempt")) for _, r in records),
                str(result.get("outcome") or "?") if result else "", damaged, info.st_size, info.st_mtime_ns,
                (info.st_dev, info.st_ino), info.st_nlink)


def _shape(fd: int, name: Name, found: list[frames.Frame]) -> tuple[str, str]:
    first = found[-1] if found else None
    if first is not None and first.start == 0 and first.record.get("frame") == ENVELOPE:
        if first.payload_length <= CHECKED and first.payload(fd) is None:
            return TORN, "the pickled call in it is damaged"
        return WHOLE, ""
    size = os.fstat(fd).st_size
    if not size:
        return TORN, "it is empty"
    parts = name.id.split("-", 3)
    if len(parts) == 4 and is_sequence(parts[1]):
        return TORN, "it is cut off: its envelope is not there"
    return (BARE, "") if _is_pickle(fd) else (TORN, "it is neither a task nor a complete pickle")


def _is_pickle(fd: int) -> bool:
    """Whether the file begins with a complete pickle; it is read, not executed."""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception:                  # whatever the bytes make it stumble over
            return False
    return True


# -- the rest ----------------------------------------------------------------------------


def _peers(folder: TaskFolder) -> Iterator[Peer]:
    member = Membership(folder)            # only to look: it is never registered
    alive = set(member.alive())
    for name, number in sorted(member.peers().items()):
        found, _ = read_heartbeat(folder.fs, name, number)
        state = GONE
        if number == ORPHAN:
            state = NOBODY
        elif number != DEAD and name in alive:
            state = ALIVE if identity.verdict(found, folder.local) in ("alive", "ending") else UNKNOWN
        tasks = sum(Name.parse(entry) is not None for entry in folder.fs.entries(f"{layout.DOING}/{name}"))
        yield Peer(name, state, number, str(found.get("host", "")), tasks)


def _requests(fs: FileOps) -> Iterator[Request]:
    for what, about in requests.pending(fs):
        try:
            made = os.lstat(fs.path(requests.path(what, about))).st_mtime
        except OSError:                    # it has been met
            continue
        yield Request(what, about, time.time() - made)


def _leftover(fs: FileOps, entry: str) -> Leftover | None:
    path = f"{layout.TMP}/{entry}"
    try:
        fd = fs.open_read(path)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        first = next(frames.backwards(fd), None) if stat.S_ISREG(info.st_mode) else None
        whole = first is not None and first.start == 0 and first.record.get("frame") == ENVELOPE
    finally:
        os.close(fd)
    return Leftover(path, whole, time.time() - info.st_mtime)


def _without_task(fs: FileOps, ids: set[str]) -> Iterator[str]:
    for entry in fs.entries(layout.TRIES):
        name = Name.parse(os.path.splitext(entry)[0] + SUFFIX)
        if name is None or name.id not in ids:
            yield f"{layout.TRIES}/{entry}"


def _open_to_others(fs: FileOps, group: bool) -> Iterator[tuple[str, int]]:
    """``group``: the list is meant for its group."""
    for folder in ("", layout.TODO, layout.DOING, layout.DONE, layout.FAIL, layout.INTERNAL):
        try:
            mode = stat.S_IMODE(os.stat(fs.path(folder) if folder else fs.root).st_mode)
        except OSError:
            continue
        if mode & (stat.S_IWOTH if group else stat.S_IWGRP | stat.S_IWOTH):
            yield folder or ".", mode

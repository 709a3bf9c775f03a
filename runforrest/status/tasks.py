"""The tasks of a list: find one by what a person calls it, list them, and tell all about one."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

from runforrest.errors import NoSuchTask
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import Waiting
from runforrest.model.names import SUFFIX, Name, clean_label
from runforrest.model.records import Attempt, Envelope

SHOWN = 10                         # candidates that an error names
_RANKS = 5                         # see `_rank`: tags are random, so they fit by chance, and come last
_MOST_MATCHES = 10_000             # kept while searching: a part that fits everything must not fill the memory


@dataclass(frozen=True)
class Place:
    """Where a task is.  ``runner``: who has claimed it, if its state is ``doing``; its gate, if that is ``waiting``."""

    state: str
    name: Name
    runner: str = ""

    @property
    def folder(self) -> str:
        return f"{self.state}/{self.runner}" if self.runner else self.state

    @property
    def path(self) -> str:
        """The task's file, relative to the list."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Held:
    """A claimed task.  ``since``: when, as the file server's clock has it; '' if it can't be told."""

    id: str
    name: str
    file: str
    since: str = ""


@dataclass(frozen=True)
class Row:
    """A line of `ls`.  What is in the file (``outcome`` and on) is read for done and failed tasks only."""

    state: str
    id: str
    name: str
    file: str
    tries: int
    lost: int
    runner: str = ""
    outcome: str = ""
    ended: str = ""
    runtime: float | None = None
    host: str = ""
    error: str = ""
    message: str = ""


@dataclass(frozen=True)
class Description:
    """All that a task's file tells: how it was scheduled, and its attempts, oldest first.

    waits_for  if it is in ``waiting``: the tasks for which it waits still, with their states ('' for one that is
               nowhere in the list)
    """

    place: Place
    envelope: Envelope
    attempts: list[Attempt]
    size: int
    waits_for: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"state": self.place.state, "id": self.place.name.id, "name": self.place.name.label,
                "file": self.place.path,
                "runner": self.place.runner if self.place.state == layout.DOING else "", "size": self.size,
                "waits_for": dict(self.waits_for), "envelope": self.envelope.to_json(),
                "attempts": [a.to_json() for a in self.attempts]}


# -- all of them -------------------------------------------------------------------------


def texts(fs: FileOps, state: str) -> Iterator[tuple[str, str]]:
    """(file name, runner or gate) of every task in a state, as the folder yields them."""
    if state not in layout.NESTED:
        yield from ((text, "") for text in _scan(fs, state))
        return
    for runner in sorted(_scan(fs, state, suffix="")):
        yield from ((text, runner) for text in _scan(fs, f"{state}/{runner}"))


def _scan(fs: FileOps, folder: str, suffix: str = SUFFIX) -> Iterator[str]:
    try:
        yield from (text for text in fs.scan(folder, folders=not suffix) if text.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return


def places(fs: FileOps, states: Iterable[str] = layout.EVERYWHERE, name: str = "", limit: int = 0) -> Iterator[Place]:
    """The tasks in these states, in order of their names within a state.

    name   a pattern (``*``, ``?``) for the name; '' for all
    limit  at most so many; 0 for all.  With it, memory does not grow with the list
    """
    left = limit
    for state in states:
        found = ((text, runner) for text, runner in texts(fs, state) if not name or _fits(text, name))
        for text, runner in heapq.nsmallest(left, found) if limit else sorted(found):
            parsed = Name.parse(text)
            if parsed is not None:
                left -= 1
                yield Place(state, parsed, runner)
        if limit and left <= 0:
            return


def _fits(text: str, pattern: str) -> bool:
    name = Name.parse(text)
    return name is not None and fnmatchcase(name.label, pattern)


def list_tasks(fs: FileOps, states: Sequence[str] = (), outcome: str = "", name: str = "",
               limit: int = 0) -> Iterator[Row]:
    """The rows of `ls`, one by one.

    states   '' for all of them; with ``outcome``, for those that have one
    outcome  only tasks whose last attempt ended like this
    """
    states = states or ((layout.DONE, layout.FAIL) if outcome else layout.EVERYWHERE)
    listed = 0
    for place in places(fs, states, name, 0 if outcome else limit):
        row = _row(fs, place)
        if row is None or (outcome and row.outcome != outcome):
            continue
        yield row
        listed += 1
        if listed == limit:
            return


def _row(fs: FileOps, place: Place) -> Row | None:
    """The row of a task; None if it has been moved meanwhile."""
    name = place.name
    row = Row(place.state, name.id, name.label, place.path, name.tries, name.lost,
              place.runner if place.state == layout.DOING else "")
    if place.state not in (layout.DONE, layout.FAIL):
        return row
    try:
        stored = StoredTask.open(fs, place.path, name, history=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Row(**{**asdict(row), "message": f"can't be read: {error.strerror or error}"})
    record = stored.result()
    if record is None:                     # the last one that is known
        stored.add_side_records(fs)
        record = stored.attempts[-1] if stored.attempts else {}
    last = Attempt.from_json(record)
    return Row(**{**asdict(row), "outcome": last.outcome, "ended": last.ended, "runtime": last.runtime,
                  "host": last.host, "error": last.error, "message": last.message})


# -- one of them -------------------------------------------------------------------------


def find(fs: FileOps, text: str, states: Sequence[str] = layout.EVERYWHERE) -> Place:
    """The one task that a person means: by path, file name, id, name, or a part that fits no other.

    Raises NoSuchTask, with the candidates if there are several.
    """
    exact = _by_path(fs, text, states)
    if exact is not None:
        return exact
    if not text:
        raise NoSuchTask("the name of a task can't be empty", directory=fs.root, matches=[])
    ranked: list[list[Place]] = [[] for _ in range(_RANKS)]
    counts = [0] * _RANKS
    label = clean_label(text)
    for state in states:
        for file, runner in texts(fs, state):
            if text in file or label in file:
                rank, name = _rank(file, text, label)
                counts[rank] += 1
                if name is not None and len(ranked[rank]) < _MOST_MATCHES:
                    ranked[rank].append(Place(state, name, runner))
    for matches, count in zip(ranked, counts, strict=True):
        if count > 1:                      # a task that was moved meanwhile is seen twice
            matches = [place for place in matches[:SHOWN * SHOWN] if _is_there(fs, place)]
            count = max(len(matches), count if count > SHOWN * SHOWN else 0)
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _several(fs, text, sorted(matches, key=lambda place: place.path), count)
    where = "" if tuple(states) == layout.EVERYWHERE else f"{' or '.join(states)}/ of "
    raise NoSuchTask(f"no task {text!r} in {where}{fs.root}; `runforrest ls {fs.root}` lists them",
                     directory=fs.root, matches=[])


def finder(fs: FileOps, wanted: Sequence[str], states: Sequence[str] = layout.EVERYWHERE) -> Callable[[str], Place]:
    """`find` for each of several: a program may name thousands by id or file name, which are looked up together."""
    named = set(wanted) if len(wanted) > 1 else set()
    known: dict[str, list[Place]] = {}
    for state in states if named else ():
        for file, runner in texts(fs, state):
            name = Name.parse(file)
            if name is not None and not named.isdisjoint((file, name.id)):
                known.setdefault(file if file in named else name.id, []).append(Place(state, name, runner))

    def look_up(text: str) -> Place:
        found = known.get(text, ())
        return found[0] if len(found) == 1 else find(fs, text, states)
    return look_up


def _rank(file: str, text: str, label: str) -> tuple[int, Name | None]:
    """How well a file name fits: 0 exactly, 1 the id, 2 the name, 3 part of the name, 4 part of the rest."""
    name = Name.parse(file)
    if name is None:
        return _RANKS - 1, None
    if file == text:
        return 0, name
    if name.id == text:
        return 1, name
    if name.label in (text, label):
        return 2, name
    return (3 if text in name.label or label in name.label else 4), name


def _by_path(fs: FileOps, text: str, states: Sequence[str]) -> Place | None:
    """The task at this path: relative to the list, or as a shell completes it."""
    if "/" not in text:
        return None
    for path in (f"{fs.root}/{text}", os.path.abspath(text)):
        parts = os.path.relpath(os.path.normpath(path), fs.root).split("/")
        name = Name.parse(parts[-1])
        if name is not None and parts[0] in states and len(parts) == (3 if parts[0] in layout.NESTED else 2):
            place = Place(parts[0], name, parts[1] if len(parts) == 3 else "")
            if _is_there(fs, place):
                return place
    return None


def _is_there(fs: FileOps, place: Place) -> bool:
    return os.path.lexists(fs.path(place.path))


def _several(fs: FileOps, text: str, matches: list[Place], count: int) -> NoSuchTask:
    shown = ", ".join(place.path for place in matches[:SHOWN])
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return NoSuchTask(f"{count} tasks match {text!r}: {shown}{more}; give more of the id, or the path",
                      directory=fs.root, matches=[place.path for place in matches])


def describe(folder: TaskFolder, place: Place) -> Description:
    """What the task's file tells.  Raises NoSuchTask if it is not there any more."""
    fs = folder.fs
    try:
        stored = StoredTask.open(fs, place.path, place.name)
    except FileNotFoundError:
        raise NoSuchTask(f"{fs.path(place.path)} is not there any more: it was moved or removed; look again",
                         directory=fs.root, matches=[]) from None
    envelope = Envelope.from_json({"id": place.name.id, **stored.envelope})
    waits_for: dict[str, str] = {}
    if place.state == layout.WAITING:
        waiting = Waiting(folder)
        left = waiting.left(place.runner)
        where = waiting.locate(left)
        waits_for = {id: where.get(id, "") for id in left}
    return Description(place, envelope, [Attempt.from_json(record) for record in stored.attempts], stored.size,
                       waits_for)


def held(fs: FileOps, place: Place) -> Held:
    """A claimed task with the time of its claim: the rename into the runner's folder changed the inode.

    Not if its contents were changed since, as by a result that could not be written yet.
    """
    since = ""
    try:
        info = os.stat(fs.path(place.path), follow_symlinks=False)
        if info.st_ctime_ns != info.st_mtime_ns:
            since = iso(info.st_ctime)
    except OSError:                        # it has ended meanwhile
        pass
    return Held(place.name.id, place.name.label, place.path, since)


def iso(seconds: float) -> str:
    """A time as it stands on disk."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

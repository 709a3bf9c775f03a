"""Making a task: its call is pickled, and its envelope says everything that a runner must know of it."""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runforrest.errors import InvalidArgument
from runforrest.folder import identity, settings
from runforrest.folder.gate import Gate, gate_of
from runforrest.folder.gates import Gates
from runforrest.folder.groups import Groups, looks_like_id
from runforrest.folder.transitions import TaskFolder
from runforrest.graph import Task, dumps, label
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.model.resources import ORDINARY, Needs

MOST_LABEL = 60                    # characters of a command that stand for it in listings
MOST_METADATA = 65536              # characters of metadata that the envelope repeats as JSON
PYTHON = sys.version.partition(" ")[0]     # platform knows it, too, and takes its time
KNOWN_SECONDS = 1.0                # so long a gate that was just made need not be looked at again
SCHEDULED_AS = "_scheduled_as"     # attribute of a task that was scheduled: its id


@dataclass
class Wanted:
    """How a task is to be run: see `TaskList.schedule`.

    command  the line, if the task is a command
    group    the group that it belongs to
    gate     what it waits for
    """

    name: str = ""
    priority: int = 0
    limits: Limits = field(default_factory=Limits)
    needs: Needs = ORDINARY
    env: Mapping[str, str | None] | None = None
    cwd: str | os.PathLike[str] | None = None
    command: str = ""
    metadata: Any = None
    group: str = ""
    gate: Gate | None = None


class Scheduler:
    """Makes the tasks of one list."""

    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder
        self._constants: dict[str, Any] = {}
        self._constants_of: tuple[object, ...] = ()

    def prepare(self, task: Task, wanted: Wanted, id: str = "") -> tuple[str, bytes, dict[str, Any]]:
        """(id, pickled call, envelope), as `TaskFolder.schedule` takes them.  Raises UnpicklableError."""
        call, serializer = dumps(task)
        what = wanted.command[:MOST_LABEL] or label(task)
        needs = wanted.needs.to_json()
        id = id or self.folder.new_id(wanted.priority, wanted.name or what, demanding=bool(needs))
        envelope = {
            "frame": "envelope", "version": 1, "id": id, "name": wanted.name, "label": what,
            "scheduled": settings.now_text(), **self._constant_part(), "serializer": serializer}
        if serializer == "dill":
            envelope["dill"] = sys.modules["dill"].__version__
        if wanted.cwd is not None:
            envelope["chdir"] = os.path.abspath(os.fsdecode(wanted.cwd))
        for key, value in (("command", wanted.command), ("priority", wanted.priority),
                           ("limits", wanted.limits.to_json()), ("needs", needs), ("env", dict(wanted.env or {})),
                           ("group", wanted.group), ("after", wanted.gate.to_json() if wanted.gate else None),
                           ("metadata", _as_json(wanted.metadata))):
            if value:
                envelope[key] = value
        return id, call, envelope

    def _constant_part(self) -> dict[str, Any]:
        """What is the same in all envelopes of this process."""
        key = (os.getpid(), os.getcwd(), *sys.path)
        if self._constants_of != key:
            self._constants_of = key
            self._constants = {"host": identity.hostname(), "pid": os.getpid(), "user": _user(),
                               "python": PYTHON, "cwd": os.getcwd(),
                               "path": [os.path.abspath(p) for p in sys.path]}
        return self._constants


class Dependencies:
    """What `TaskList.schedule` is told with ``after``, as a gate of the list.

    The last one is kept, since thousands of tasks may wait for the same.
    """

    def __init__(self, folder: TaskFolder) -> None:
        self.folder, self.gates, self.groups = folder, Gates(folder), Groups(folder.fs)
        self._key: object = None
        self._ids_only: tuple[Any, ...] = ()   # what was given last, if it was ids and nothing else
        self._made: Gate | None = None
        self._made_at = 0.0

    def gate(self, after: Any, even_if_failed: bool) -> Gate | None:
        """The gate, which is closed then; None if there is nothing to wait for any more.

        Raises InvalidArgument, and NoSuchTask for a task that is not in the list.
        """
        items = tuple(_items(after))
        known = items == self._ids_only
        groups = [] if known else [item for item in items if isinstance(item, str) and self._is_group(item)]
        ids = self._ids_only if known else tuple(map(_id_of, items))
        key = (even_if_failed, ids, tuple(map(self.groups.stamp, groups)))
        self._ids_only = ids if known or (not groups and all(type(item) is str for item in items)) else ()
        if key != self._key or not self._is_as_made(bool(groups)):
            self._key = None
            gate = gate_of(self._ids(items, groups), even_if_failed)
            self._made = gate if self.gates.close(gate) else None
            self._key, self._made_at = key, time.monotonic()
        return self._made

    def publish(self, wanted: Wanted, id: str, call: bytes, envelope: dict[str, Any]) -> Name:
        """Put a task into ``todo/``, or behind its gate, and into its group; a list that was removed is made anew.

        Raises OSError; then it is not there.
        """
        try:
            return self._publish(wanted, id, call, envelope)
        except FileNotFoundError:              # cleaned, or removed by a person
            fs, found = self.folder.fs, self.folder.settings
            settings.create(fs, found.durability, fs.trust.anyone, found.group or fs.trust.group is not None,
                            fs.trust.key)
            return self._publish(wanted, id, call, envelope)

    def _publish(self, wanted: Wanted, id: str, call: bytes, envelope: dict[str, Any]) -> Name:
        if wanted.group:
            self.groups.join(wanted.group, id)
        try:
            if wanted.gate:
                return self.gates.publish(wanted.gate, id, call, envelope)
            return self.folder.schedule(id, call, envelope)
        except OSError:
            if wanted.group:
                self.groups.leave(wanted.group, id)
            raise

    def _is_as_made(self, of_groups: bool) -> bool:
        """Also a gate that can't open any more is looked at anew: what failed may have been put back."""
        if time.monotonic() - self._made_at < KNOWN_SECONDS:
            return True
        return not of_groups and (self._made is None or not self.gates.waiting.is_failed(self._made.name))

    def _is_group(self, text: str) -> bool:
        return not looks_like_id(text) and self.groups.is_group(text)

    def _ids(self, items: tuple[Any, ...], groups: list[str]) -> set[str]:
        ids = {_id_of(item) for item in items if item not in groups}
        for group in groups:
            members = self.groups.members(group) or []
            ids.update(self.gates.waiting.locate(members))         # those that were removed are not waited for
        return ids


def _items(after: Any) -> Iterable[Any]:
    if isinstance(after, (str, Task)):
        return (after,)
    if isinstance(after, Iterable):
        return after
    raise InvalidArgument(f"after takes ids, tasks that were scheduled, names of groups, or a list of these, "
                          f"not {after!r:.60}", argument="after")


def _id_of(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, Task):
        scheduled = item.__dict__.get("scheduled")
        id = item.__dict__.get(SCHEDULED_AS) or getattr(scheduled, "id", "")
        if id:
            return str(id)
        raise InvalidArgument(f"after: {item!r} has not been scheduled: schedule it first", argument="after")
    raise InvalidArgument(f"after takes ids, tasks that were scheduled, and names of groups, not {item!r:.60}",
                          argument="after")


def _as_json(metadata: Any) -> Any:
    """The metadata as far as JSON can say it, for readers that must not unpickle."""
    try:
        text = json.dumps(metadata, default=repr, skipkeys=True)
        return json.loads(text) if len(text) <= MOST_METADATA else text[:MOST_METADATA]
    except Exception:                  # it contains itself, or has a repr that raises
        return f"<{type(metadata).__name__}>"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid())

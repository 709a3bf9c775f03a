"""Named groups of tasks: a folder for each, with an empty file for each of its tasks."""

from __future__ import annotations

import os
from urllib.parse import quote

from runforrest.errors import InvalidArgument
from runforrest.folder import layout
from runforrest.folder.entries import enter, make_folder
from runforrest.folder.fsio import FileOps
from runforrest.model.names import is_sequence

MOST_BYTES = 200                   # of a group's name, as it is in a file name


class Groups:
    """The groups of one list."""

    def __init__(self, fs: FileOps) -> None:
        self.fs = fs
        self._joined: set[str] = set()

    def join(self, group: str, id: str) -> None:
        """Enter a task, which is then published, into a group."""
        if group not in self._joined:
            make_folder(self.fs, _folder(group))
            self._joined.add(group)
        enter(self.fs, _folder(group), id)

    def leave(self, group: str, id: str) -> None:
        """It could not be published."""
        self.fs.unlink(f"{_folder(group)}/{id}")

    def members(self, group: str) -> list[str] | None:
        """Ids of the tasks of a group, also of some that are not there any more; None if there is no such group."""
        try:
            return self.fs.listdir(_folder(group))
        except FileNotFoundError:
            return None

    def is_group(self, group: str) -> bool:
        return bool(group) and len(group) <= MOST_BYTES and os.path.isdir(self.fs.path(_folder(group)))

    def stamp(self, group: str) -> tuple[int, int]:
        """Different when the group has got another member, but for those of the same moment."""
        fd = os.open(self.fs.path(_folder(group)), os.O_RDONLY)
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        return info.st_mtime_ns, info.st_size


def check_group(group: object) -> str:
    """Raises InvalidArgument."""
    if not isinstance(group, str) or not group or len(quote(group, safe="")) > MOST_BYTES or looks_like_id(group):
        raise InvalidArgument(f"group must be a text of at most {MOST_BYTES} bytes, and no task's id, "
                              f"not {group!r:.60}", argument="group")
    return group


def looks_like_id(text: str) -> bool:
    """Whether it is an id as `schedule` makes them: a group is not called like that."""
    parts = text.split("-", 3)
    return len(parts) == 4 and is_sequence(parts[1])


def _folder(group: str) -> str:
    name = quote(group, safe=" ")
    return f"{layout.GROUPS}/{'%2E' + name[1:] if name.startswith('.') else name}"

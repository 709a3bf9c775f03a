"""Whose files may be unpickled, which is to run what is in them.  Loaded in every child."""

from __future__ import annotations

import os
import stat

from runforrest.errors import Untrusted
from runforrest.folder.signing import Key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Trust:
    """What must hold of a file before anything in it is unpickled, and for whom new files are made.

    anyone  owners and modes don't matter: whoever can write to the folder may run code as this user
    group   the number of the group whose members may do so, too; None: this user and root only
    shared  new files and folders are for the members of the folder's group, too
    key     with it, what is unpickled must be signed, and what is written gets signed; or None
    """

    __slots__ = ("anyone", "group", "key", "shared")

    def __init__(self, anyone: bool = False, group: int | None = None, shared: bool = False,
                 key: Key | None = None) -> None:
        self.anyone, self.group, self.shared, self.key = anyone, group, shared, key

    @property
    def file_mode(self) -> int:
        return 0o660 if self.shared else 0o600

    @property
    def folder_mode(self) -> int:
        """With the set-group-id bit, so that what is made in a shared folder keeps its group."""
        return 0o2770 if self.shared else 0o700

    def objection(self, info: os.stat_result) -> str:
        """Who else may have written this file or folder: ``its owner (user 12)``; '' if nobody may."""
        if self.anyone:
            return ""
        ours = self.group is not None and info.st_gid == self.group
        foreign = info.st_uid not in (os.geteuid(), 0)
        return " and ".join(who for who, wrong in (
            (f"its owner (user {info.st_uid})", foreign and not ours),
            ("its group", info.st_mode & stat.S_IWGRP and not ours),
            ("everybody", info.st_mode & stat.S_IWOTH)) if wrong)

    def remedy(self, info: os.stat_result, path: str) -> str:
        """What to do about an objection."""
        mend = "chmod go-w" if info.st_uid in (os.geteuid(), 0) else f"chown {os.geteuid()}"
        group = (f", or say --group (group=True) if you trust the members of group {info.st_gid}"
                 if self.shared and self.group is None else "")
        return f"`{mend} {path}`{group}, or say --trust (trust=True) if you trust them"

    def check(self, fd: int, path: str) -> None:
        """Refuse what others may have written.  Raises Untrusted; looks at the open file, so nobody can swap it."""
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise Untrusted(f"{path} was not unpickled: it is not a regular file")
        who = self.objection(info)
        if who:
            raise Untrusted(f"{path} was not unpickled: it can be written by {who}, and tasks are code: "
                            f"{self.remedy(info, path)}")

    def to_json(self) -> dict[str, Any]:
        """For another process of the same user; the key itself is not in it, but where it is."""
        return {"anyone": self.anyone, "group": self.group, "shared": self.shared,
                "key": self.key.file if self.key else None}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Trust:
        """Raises SigningKeyError if the key can't be read any more."""
        return cls(found["anyone"], found["group"], found["shared"], Key(found["key"]) if found["key"] else None)

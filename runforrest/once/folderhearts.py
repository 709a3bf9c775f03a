"""Hearts in a folder of keys: ``hearts/<owner>@<number>``, raised by rename, as the heartbeats of runners are."""

from __future__ import annotations

import json
import random
from typing import Any

from runforrest.once.files import NO_WRITING, KeyFiles
from runforrest.once.hearts import DEAD, SWEPT, is_old
from runforrest.once.settings import HEARTS


class FolderHearts:
    """The `Heartbeats` of a folder."""

    def __init__(self, fs: KeyFiles, seconds: float) -> None:
        """``seconds``: from one beat to the next."""
        self.fs, self.seconds = fs, seconds

    def begin(self, owner: str, text: dict[str, Any]) -> None:
        path = _path(owner, 0)
        try:
            self.fs.create(path, [json.dumps(text).encode()])
        except FileExistsError:         # a call of ours whose reply was lost: the name is ours alone
            pass
        self._sweep(path)

    def _sweep(self, mine: str) -> None:
        """Look at some hearts, and remove those that stopped long ago, by the clock of the filesystem."""
        names = self.fs.entries(HEARTS)
        for name in random.sample(names, min(SWEPT, len(names))):
            try:
                age = (self.fs.modified(mine) - self.fs.modified(f"{HEARTS}/{name}")) / 1e9
                if is_old(name.rpartition("@")[2], age, self.seconds):
                    self.fs.unlink(f"{HEARTS}/{name}")
            except OSError:
                continue

    def beat(self, owner: str, number: int) -> bool:
        return self._move(_path(owner, number), _path(owner, number + 1))

    def numbers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in self.fs.listdir(HEARTS):
            owner, at, number = name.rpartition("@")
            if at and found.get(owner) != DEAD:
                found[owner] = number
        return found

    def identity(self, owner: str, number: str) -> dict[str, Any]:
        try:
            found = json.loads(self.fs.read(_path(owner, number)))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def bury(self, owner: str, number: str) -> bool:
        try:
            return self._move(_path(owner, number), _path(owner, DEAD))
        except OSError as error:
            if error.errno in NO_WRITING:       # who can only look can't declare anything
                return False
            raise

    def end(self, owner: str, number: int, holding: bool) -> None:
        if holding:
            self._move(_path(owner, number), _path(owner, DEAD))
        else:
            self.fs.unlink(_path(owner, number))

    def _move(self, source: str, destination: str) -> bool:
        """Whether it is there now, also if the reply was lost."""
        try:
            self.fs.rename(source, destination)
        except OSError as error:
            if self.fs.exists(destination):
                return True
            if not isinstance(error, FileNotFoundError):
                raise
            return False
        return True


def _path(owner: str, number: object) -> str:
    return f"{HEARTS}/{owner}@{number}"

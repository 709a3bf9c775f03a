"""Empty files and folders that are made by whoever needs them, and removed by others at the same time."""

from __future__ import annotations

import errno
import os

from runforrest.folder import settings
from runforrest.folder.fsio import FileOps

TRIES = 10


def make_folder(fs: FileOps, folder: str) -> None:
    """Make a folder that may be there, and those above it; a link in its place is refused."""
    above = folder.rpartition("/")[0]
    for _ in range(TRIES):
        try:
            fs.mkdir(folder)
            return
        except FileExistsError:
            if is_folder(fs, folder):
                return
        except FileNotFoundError:
            if not above:
                raise
            make_folder(fs, above)
    raise _removed(fs.path(folder))


def enter(fs: FileOps, folder: str, name: str) -> None:
    """Make an empty file that may be there, and its folder."""
    for _ in range(TRIES):
        try:
            fs.create(f"{folder}/{name}", [])
            return
        except FileExistsError:
            return
        except FileNotFoundError:              # it was removed while it was being made
            make_folder(fs, folder)
    raise _removed(fs.path(folder))


def is_folder(fs: FileOps, folder: str) -> bool:
    """Whether it is there; a link in its place is refused."""
    try:
        settings.refuse_link(fs, folder, os.lstat(fs.path(folder)))
    except FileNotFoundError:
        return False
    return True


def _removed(path: str) -> OSError:
    return FileNotFoundError(errno.ENOENT, "removed again and again", path)

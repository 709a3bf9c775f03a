"""Removing tasks: only what is ours, so that a folder with something else in it loses nothing."""

from __future__ import annotations

from collections.abc import Sequence

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import SUFFIX, Name

STATES = (layout.TODO, layout.DONE, layout.FAIL)


def clean(fs: FileOps, states: Sequence[str] = STATES, keep_folders: bool = False) -> None:
    """Remove the tasks in these states, with their outputs; ``todo`` stands for claimed tasks, too.

    keep_folders  leave the list itself in place; else it is removed, unless foreign files are in it
    """
    for state in states:
        _clean_folder(fs, state)
        if state == layout.TODO:
            for runner in _listed(fs, layout.DOING):
                _clean_folder(fs, f"{layout.DOING}/{runner}")
                _rmdir(fs, f"{layout.DOING}/{runner}")
    if set(states) < set(STATES):
        return
    for name in layout.INTERNALS:
        for entry in _listed(fs, name):
            _unlink(fs, f"{name}/{entry}")
    for name in (layout.SESSION, layout.HISTORY, layout.SCHEDULING, layout.LOCK):
        _unlink(fs, name)
    if not keep_folders:
        _unlink(fs, layout.SETTINGS)
        for name in (*layout.INTERNALS, layout.INTERNAL, layout.DOING, *states, ""):
            _rmdir(fs, name)


def _clean_folder(fs: FileOps, folder: str) -> None:
    for entry in _listed(fs, folder):
        if entry.endswith(".log"):          # of an attempt; any other log is not ours
            name = Name.parse(entry[:-4] + SUFFIX)
            ours = name is not None and name.tries > 0
        else:
            ours = Name.parse(entry) is not None
        if ours:
            _unlink(fs, f"{folder}/{entry}")


def _listed(fs: FileOps, folder: str) -> list[str]:
    try:
        return fs.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unlink(fs: FileOps, name: str) -> None:
    try:
        fs.unlink(name)
    except IsADirectoryError:       # a folder of that name is not ours
        pass


def _rmdir(fs: FileOps, name: str) -> None:
    try:
        fs.rmdir(name)
    except OSError:
        pass

"""Removing tasks: only what is ours, so that a folder with something else in it loses nothing."""

from __future__ import annotations

from collections.abc import Sequence

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name

STATES = (layout.TODO, layout.DONE, layout.FAIL)


def clean(fs: FileOps, states: Sequence[str] = STATES, keep_folders: bool = False) -> None:
    """Remove the tasks in these states, with their outputs; ``todo`` stands for claimed tasks, too.

    keep_folders  leave the list itself in place; else it is removed, unless foreign files are in it
    """
    for state in states:
        _clean_folder(fs, state)
        if state == layout.TODO:
            for runner in fs.entries(layout.DOING):
                _clean_folder(fs, f"{layout.DOING}/{runner}")
                _rmdir(fs, f"{layout.DOING}/{runner}")
            _clean_gates(fs)
    if set(states) < set(STATES):
        return
    for name in layout.INTERNALS:
        for entry in fs.entries(name):
            _unlink(fs, f"{name}/{entry}")
    _empty(fs, layout.GROUPS)
    for entry in fs.entries(layout.ENGINES):
        _unlink(fs, f"{layout.ENGINES}/{entry}")
    _rmdir(fs, layout.ENGINES)
    for name in (layout.SESSION, layout.HISTORY, layout.SCHEDULING, layout.LOCK, layout.FEEDER, *layout.OF_BATCH):
        _unlink(fs, name)
    if not keep_folders:
        _empty(fs, layout.TOKENS)
        _unlink(fs, layout.SETTINGS)
        for name in (*layout.INTERNALS, layout.INTERNAL, layout.DOING, *states, ""):
            _rmdir(fs, name)


def _clean_gates(fs: FileOps) -> None:
    """What waits, and all that is known of it: the tasks first, as a gate that is gone is an open one."""
    for gate in fs.entries(layout.WAITING):
        _clean_folder(fs, f"{layout.WAITING}/{gate}")
        _rmdir(fs, f"{layout.WAITING}/{gate}")
    for folder in (layout.GATES, layout.AFTER):
        _empty(fs, folder)
    for gate in fs.entries(layout.SETS):
        _unlink(fs, f"{layout.SETS}/{gate}")
    for folder in (layout.SETS, layout.WAITING):
        _rmdir(fs, folder)


def _empty(fs: FileOps, folder: str) -> None:
    """Remove a folder of folders of files."""
    for each in fs.entries(folder):
        for entry in fs.entries(f"{folder}/{each}"):
            _unlink(fs, f"{folder}/{each}/{entry}")
        _rmdir(fs, f"{folder}/{each}")
    _rmdir(fs, folder)


def _clean_folder(fs: FileOps, folder: str) -> None:
    for entry in fs.entries(folder):
        of = layout.task_of_log(entry)
        if of:                              # of an attempt; any other log is not ours
            name = Name.parse(of)
            ours = name is not None and name.tries > 0
        else:
            ours = Name.parse(entry) is not None
        if ours:
            _unlink(fs, f"{folder}/{entry}")


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

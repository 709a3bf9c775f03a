"""The ranks of a batch's runners, DISBATCH_ENGINE_RANK: each is given once, whoever starts runners, and when."""

from __future__ import annotations

from contextlib import suppress

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps

RANK = "rank."                     # and a number: an empty file in `layout.ENGINES`


def take(fs: FileOps, count: int) -> int:
    """The first of so many ranks, one after another, that nobody has had; they are taken."""
    first = 1 + max((int(entry.removeprefix(RANK)) for entry in fs.entries(layout.ENGINES) if entry.startswith(RANK)),
                    default=-1)
    with suppress(FileExistsError):
        fs.mkdir(layout.ENGINES)
    while True:
        rank = first
        try:
            for rank in range(first, first + count):
                fs.create(f"{layout.ENGINES}/{RANK}{rank}", [b""])
            return first
        except FileExistsError:             # somebody else is just taking some
            first = rank + 1

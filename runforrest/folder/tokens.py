"""Tokens of the whole list: whatever there is only so many of, however many hosts are at work.

Each is a file, ``.runforrest/tokens/<token>/<number>``.  A runner takes one by renaming it to ``<number>@<runner>``,
a name that is this runner's alone, and gives it back by renaming it again; so does whoever takes back the tasks of a
runner that is gone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from runforrest.errors import InvalidArgument
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.transitions import LOST_RACE
from runforrest.model.resources import check_tokens

AT = "@"
MOST = 10_000                      # of one token; each is a file
TRIES = 10                         # to have the number that was asked for


@dataclass
class Token:
    """How many there are of a token, and who has how many of them."""

    total: int = 0
    holders: dict[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return self.total - sum(self.holders.values())


def look(fs: FileOps) -> dict[str, Token]:
    """The list's tokens, by name."""
    found = {}
    for name in sorted(fs.entries(layout.TOKENS)):
        token = found[name] = Token()
        for _, at, runner in _parts(fs, name):
            token.total += 1
            if at:
                token.holders[runner] = token.holders.get(runner, 0) + 1
    return found


def define(fs: FileOps, wanted: Mapping[str, int]) -> None:
    """Have so many of these tokens.  If more are in use, the tasks that have them go on.

    Raises InvalidArgument.
    """
    for name, count in check_tokens(wanted).items():
        if count > MOST:
            raise InvalidArgument(f"tokens[{name!r}]: a list may have {MOST} of a token at most, not {count}",
                                  argument="tokens")
    for name, count in wanted.items():
        for folder in (layout.INTERNAL, layout.TOKENS, f"{layout.TOKENS}/{name}"):
            with suppress(FileExistsError):
                fs.mkdir(folder)
        for _ in range(TRIES):                 # while some are just being taken, or given back
            if not _change(fs, name, count):
                break


def _change(fs: FileOps, name: str, count: int) -> bool:
    """Make or remove tokens, first those that nobody has; False if there are so many already."""
    parts = sorted(_parts(fs, name), key=lambda part: part[1:])
    for number, at, runner in parts[:max(0, len(parts) - count)]:
        fs.unlink(f"{layout.TOKENS}/{name}/{number}{at}{runner}")
    there = {number for number, _, _ in parts}
    unused = (str(n) for n in range(1, count + len(there) + 1) if str(n) not in there)
    for _ in range(count - len(parts)):
        with suppress(FileExistsError):        # somebody says the same at the same time
            fs.create(f"{layout.TOKENS}/{name}/{next(unused)}", [b""])
    return len(parts) != count


def take(fs: FileOps, runner: str, wanted: Mapping[str, int]) -> list[str] | None:
    """Take these for a task; returns what `give_back` needs, None if there are not enough now, and none is taken.

    Raises OSError.
    """
    taken: list[str] = []
    try:
        if all(_take(fs, runner, name, count, taken) for name, count in wanted.items()):
            return taken
    except OSError:
        with suppress(OSError):                # what can't be given back either is, when the runner leaves
            give_back(fs, taken)
        raise
    give_back(fs, taken)
    return None


def _take(fs: FileOps, runner: str, name: str, count: int, taken: list[str]) -> bool:
    """Take so many of one token, and add them to ``taken``; False if there are not enough."""
    free = [number for number, at, _ in _parts(fs, name) if not at]
    random.shuffle(free)
    for number in free:
        if not count:
            break
        if _move(fs, f"{layout.TOKENS}/{name}/{number}", f"{layout.TOKENS}/{name}/{number}{AT}{runner}"):
            taken.append(f"{name}/{number}{AT}{runner}")
            count -= 1
    return not count


def give_back(fs: FileOps, taken: list[str]) -> None:
    """Give back what `take` took; doing so twice does no harm.  Raises OSError."""
    for each in taken:
        _move(fs, f"{layout.TOKENS}/{each}", f"{layout.TOKENS}/{each.rpartition(AT)[0]}")


def give_back_all(fs: FileOps, runner: str) -> None:
    """Give back all that a runner has.  Raises OSError."""
    for name in fs.entries(layout.TOKENS):
        give_back(fs, [f"{name}/{number}{AT}{holder}" for number, at, holder in _parts(fs, name)
                       if at and holder == runner])


def _parts(fs: FileOps, name: str) -> list[tuple[str, str, str]]:
    """(number, '@' if it is taken, by whom)."""
    return [entry.partition(AT) for entry in fs.entries(f"{layout.TOKENS}/{name}")]


def _move(fs: FileOps, source: str, destination: str) -> bool:
    """Whether it is where it should be, also when the reply was lost; else another was quicker."""
    try:
        fs.rename(source, destination)
    except OSError as error:
        if fs.exists(destination):
            return True
        if error.errno not in LOST_RACE:
            raise
        return False
    return True

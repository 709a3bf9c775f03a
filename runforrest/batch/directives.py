"""Task files: one command per line, and the lines that begin with #DISBATCH.

What disBatch 3.0 runs is read as it reads it, to the byte.  What it passes over without a word, or takes for something
else than was meant, is a TaskFileError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from runforrest.errors import TaskFileError

DIRECTIVE = b"#DISBATCH"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ALL = 1 << 100                  # more tasks than any file has, whatever it repeats
LONGEST = 2 << 20               # bytes of a command, which must fit into a record: see `frames.MAX_RECORD`
NOTHING = (b"", b"#")           # how a line begins, its white space left out, that says nothing

TEXT = re.compile(rb"(PREFIX|SUFFIX) (.*)", re.IGNORECASE)
PERENGINE = re.compile(rb"(?i:PERENGINE) (START|STOP) (.*)")
REPEAT = re.compile(rb"REPEAT\s+([0-9]{1,18})(?:\s+start\s+([0-9]{1,18}))?(?:\s+step\s+([0-9]{1,18}))?(?: (.+))?\s*",
                    re.IGNORECASE)
BARRIER = re.compile(rb"BARRIER( CHECK)?(?: (.*))?\s*")
# What follows a REPEAT's numbers and was meant to be one of them.
LEFT_OVER = re.compile(rb"\s*(?:start|step)(?:\s*$|\s+[-+]?[0-9]|=?[-+]?[0-9]+(?:\s|$))", re.IGNORECASE)

HELP = {
    b"PREFIX": "'#DISBATCH PREFIX text', with one blank after PREFIX; nothing after that blank clears the prefix",
    b"SUFFIX": "'#DISBATCH SUFFIX text', with one blank after SUFFIX; nothing after that blank clears the suffix",
    b"REPEAT": "'#DISBATCH REPEAT n [start a] [step b] [command]', in this order, with whole numbers that are not "
               "negative",
    b"BARRIER": "'#DISBATCH BARRIER [CHECK] [key]', with BARRIER and CHECK in capitals",
    b"PERENGINE": "'#DISBATCH PERENGINE START command' or '#DISBATCH PERENGINE STOP command', with START and STOP in "
                  "capitals",
    b"PERNODE": "'#DISBATCH PERENGINE START command': PERNODE is no longer known since disBatch 2",
}


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A command to run.

    task     its number; tasks and barriers are numbered together, from 0
    line     where it stands in the file, from 1
    repeat   index within a REPEAT; -1 outside
    command  with prefix and suffix; bytes that are not UTF-8 are surrogates
    """

    task: int
    line: int
    repeat: int
    command: str


@dataclass(frozen=True, slots=True)
class Barrier:
    """Nothing after it starts until all before it has ended.

    check    the run ends here if something has failed since the barrier before
    key      the name under which its number is published, or ""
    command  the line as it stands in the file, for the status file
    """

    task: int
    line: int
    check: bool
    key: str
    command: str


@dataclass(frozen=True, slots=True)
class PerEngine:
    """A command for each engine when it joins ("START") or leaves ("STOP").

    task  its number among those of the same kind, from 0: they have no part in the numbers of tasks
    """

    task: int
    line: int
    when: str
    command: str


def parse(lines: Iterable[bytes], file: str, after: int = 0) -> Iterator[TaskLine | Barrier | PerEngine]:
    """What a task file says, as its lines come.  Raises TaskFileError when it reaches the line that is wrong.

    lines  as an open binary file gives them.  Several lines in one item share its number, as those of one message do
    file   its name, for the errors
    after  number of the first task or barrier that is wanted; those below are counted, not yielded.
           PerEngine are yielded whatever it is
    """
    return _Reader(file, after).read(lines)


def check(lines: Iterable[bytes], file: str) -> int:
    """Read a whole task file; returns its number of tasks and barriers.  Raises TaskFileError."""
    reader = _Reader(file, ALL)
    for _ in reader.read(lines):
        pass
    return reader.next


class _Reader:
    """What one line of a task file leaves for the next ones."""

    def __init__(self, file: str, after: int) -> None:
        self.file = file
        self.after = after
        self.next = 0                                       # number of the next task or barrier
        self.prefix = b""
        self.suffix = b""
        self.room = LONGEST                                 # for a command between them
        self.per_engine: dict[str, int] | None = {"START": 0, "STOP": 0}    # None: it is too late for these

    def read(self, lines: Iterable[bytes]) -> Iterator[TaskLine | Barrier | PerEngine]:
        for number, item in enumerate(lines, 1):
            if number == 1 and item.startswith(BYTE_ORDER_MARK):
                self._refuse(1, "the file begins with a byte order mark", "it as UTF-8 without one")
            for line in item.splitlines():      # of bytes: at \n, \r\n and \r, and at nothing else
                if line.startswith(DIRECTIVE):
                    if self._is_directive(line, number):
                        yield from self._directive(line, number)
                        continue
                elif line.lstrip()[:1] in NOTHING:
                    continue
                if len(line) > self.room:
                    self._too_long(line, number)
                if self.next >= self.after:
                    yield TaskLine(self.next, number, -1, self._joined(line))
                self.next += 1
                self.per_engine = None

    def _too_long(self, command: bytes, line: int) -> NoReturn:
        self._refuse(line, f"the command has {LONGEST - self.room + len(command):,} bytes, prefix and suffix with it, "
                           f"more than {LONGEST:,}", "it into a script, and here what runs that")

    def _joined(self, command: bytes) -> str:
        return (self.prefix + command + self.suffix).decode("utf-8", "surrogateescape")

    def _refuse(self, line: int, what: str, instead: str) -> NoReturn:
        raise TaskFileError(f"{self.file}, line {line}: {what}; write {instead}", file=self.file, line=line)

    def _is_directive(self, line: bytes, number: int) -> bool:
        """Whether it is one: a longer word that begins alike is an ordinary line, a comment that bash is given."""
        rest = line[len(DIRECTIVE):]
        if rest[:1] == b" ":
            return True
        if not rest.strip() or rest[:1].isspace() or rest.upper().startswith(tuple(HELP)):
            self._unknown(line, number)
        return False

    def _directive(self, line: bytes, number: int) -> Iterable[TaskLine | Barrier | PerEngine]:
        rest = line[len(DIRECTIVE) + 1:]
        if match := TEXT.fullmatch(rest):
            if match[1].upper() == b"PREFIX":
                self.prefix = match[2]
            else:
                self.suffix = match[2]
            self.room = LONGEST - len(self.prefix) - len(self.suffix)
            return ()
        if match := PERENGINE.fullmatch(rest):
            return [self._per_engine(match[1].decode(), match[2], number)]
        if match := REPEAT.fullmatch(rest):
            return self._repeat(match, number)
        if match := BARRIER.fullmatch(rest):
            return self._barrier(match, line, number)
        self._unknown(line, number)

    def _per_engine(self, when: str, command: bytes, number: int) -> PerEngine:
        if self.per_engine is None:
            self._refuse(number, "PERENGINE stands after a task, a REPEAT or a BARRIER", "it above them")
        if len(command) > self.room:
            self._too_long(command, number)
        joined = self._joined(command)
        if "\0" in joined:
            self._refuse(number, f"the command has a NUL character in it: {joined[:100]!r}", "it without")
        self.per_engine[when] += 1
        return PerEngine(self.per_engine[when] - 1, number, when, joined)

    def _repeat(self, match: re.Match[bytes], number: int) -> Iterator[TaskLine]:
        count, start, step = int(match[1]), int(match[2] or 0), int(match[3] or 1)
        body = match[4] or b""
        if LEFT_OVER.match(body):
            self._refuse(number, f"REPEAT would take {_text(body)!r} for its command", HELP[b"REPEAT"])
        if len(body) > self.room:
            self._too_long(body, number)
        command = self._joined(body)
        first = self.next
        self.next += count
        self.per_engine = None
        for index in range(min(max(self.after - first, 0), count), count):
            yield TaskLine(first + index, number, start + index * step, command)

    def _barrier(self, match: re.Match[bytes], line: bytes, number: int) -> Iterator[Barrier]:
        key = match[2] or b""
        words = key.upper().split() or [b""]
        if not match[1] and (key.startswith(b"CHECK") or b"CHECK" in (words[0], words[-1])):
            self._refuse(number, f"BARRIER would take {_text(key)!r} for a key",
                         "'#DISBATCH BARRIER CHECK [key]', with CHECK in capitals and one blank before and after it")
        self.next += 1
        self.per_engine = None
        if self.next > self.after:
            yield Barrier(self.next - 1, number, bool(match[1]), _text(key), _text(line))

    def _unknown(self, line: bytes, number: int) -> NoReturn:
        from difflib import get_close_matches
        known = [name.decode() for name in HELP]
        word = re.split("[^A-Z]", _text(line[len(DIRECTIVE):]).strip().upper(), maxsplit=1)[0]
        meant = [name for name in known if word.startswith(name)] or get_close_matches(word, known, 1)
        instead = HELP[meant[0].encode()] if meant else f"one of {', '.join(known[:-1])} after '#DISBATCH ', or '# ' " \
                                                        "at the beginning of a comment"
        self._refuse(number, f"this is no directive: {_text(line[:100])!r}", instead)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")

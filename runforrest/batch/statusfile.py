"""Status files: one line of 15 fields per ended task, as disBatch writes and reads them."""

from __future__ import annotations

import ast
import mmap
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, TypeVar

T = TypeVar("T")

HEADER = ("ROE[ PSZ]\tTaskID\tLineNum\tRepeatIndex\tNode\tPID\tReturnCode\tElapsed\tStart\tFinish\t"
          "BytesOfLeakedOutput\tOutputSnippet\tBytesOfLeakedError\tErrorSnippet\tCommand")
FIELDS = 15
WHOLE, DECIMAL, QUOTED = (1, 2, 3, 5, 6, 10, 12), (7, 8, 9), (11, 13)      # which of them are numbers, or quoted
FLAGS = re.compile(r"(?:[R ][O ][E ][PSZ ]?|    )[ ]?|[BC] {0,4}")
FLAGS_WIDTH = 4                    # of a task's record, as we write it
# What a snippet looks like: a text as Python writes it.
LITERAL = re.compile(r"""'(?:[^'\\]|\\[^xuUN]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*'"""
                     r'''|"(?:[^"\\]|\\[^xuUN]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"''')
EMPTY = ("''", '""')

TASK, PER_ENGINE, SKIPPED, LATE = " ", "P", "S", "Z"    # kinds of records of commands
BARRIER, CHECK = "B", "C"                               # and of barriers
LOST = -100                                             # return code of a task whose engine was lost
NEVER_STARTED = -1                                      # pid of a task without a process


@dataclass(frozen=True, slots=True)
class StatusLine:
    """How a task, a barrier or an engine's command ended.

    kind     TASK, PER_ENGINE, SKIPPED (the record of an earlier run, repeated), LATE (does not count), BARRIER or CHECK
    task     its number, with ``line`` and ``repeat`` as in the task file
    node     host name; ``pid``: of the bash; a barrier has those of who reads the task file
    code     exit code, or minus the number of the signal
    start, finish       seconds since 1970
    out_bytes, out      how much it wrote to standard output, and the first and last 40 bytes of that
    err_bytes, err      the same of standard error
    command  as the file has it: see `written`
    """

    kind: str
    task: int
    line: int
    repeat: int
    node: str
    pid: int
    code: int
    start: float
    finish: float
    out_bytes: int = 0
    out: str = ""
    err_bytes: int = 0
    err: str = ""
    command: str = ""

    @property
    def flags(self) -> str:
        """Field 1: four characters, or five of a barrier."""
        if self.kind in (BARRIER, CHECK):
            return f"{self.kind:5}"
        return f"{'R' if self.code else ' '}{'O' if self.out_bytes else ' '}{'E' if self.err_bytes else ' '}{self.kind}"

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self.finish - self.start

    def to_line(self) -> str:
        """Without the newline."""
        return (f"{self.flags}\t{self.task}\t{self.line}\t{self.repeat}\t{self.node}\t{self.pid}\t{self.code}\t"
                f"{self.elapsed:.3f}\t{self.start:.3f}\t{self.finish:.3f}\t{self.out_bytes}\t{self.out!r}\t"
                f"{self.err_bytes}\t{self.err!r}\t{self.command}")

    @classmethod
    def from_line(cls, text: str, kind: str = "") -> StatusLine:
        """Out of a line without its newline, written by any version of disBatch, or by us.  Raises ValueError.

        kind  what it becomes, if not what it is
        """
        (flags, task, line, repeat, node, pid, code, _, start, finish, out_bytes, out, err_bytes, err,
         command) = _fields(text)
        return cls(kind or _kind(flags), int(task), int(line), int(repeat), node, int(pid), int(code), float(start),
                   float(finish), int(out_bytes), _text(out), int(err_bytes), _text(err), command)

    def is_of(self, command: str) -> bool:
        """Whether this is the record of a command: of its text as it is, or quoted as disBatch 1 and 2 did it."""
        if self.command == command or self.command == written(command):
            return True
        return self.command[:1] in ("'", '"', "b") and _unquoted(self.command) == command


class BadLine(NamedTuple):
    """A line of a status file that can't be read; ``line``: its number, from 1."""

    file: str
    line: int
    reason: str


def written(command: str) -> str:
    """A command as field 15 has it: as it is, or the repr of its bytes if it is not one line of UTF-8."""
    try:
        command.encode()
    except UnicodeEncodeError:
        return repr(command.encode("utf-8", "surrogateescape"))
    return command if "\n" not in command else repr(command.encode())


def _unquoted(field: str) -> str | None:
    try:
        value = ast.literal_eval(field)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else None


def _fields(text: str) -> list[str]:
    fields = text.split("\t", FIELDS - 1)
    if len(fields) != FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {FIELDS}")
    if not FLAGS.fullmatch(fields[0]):
        raise ValueError(f"unknown flags {fields[0]!r}")
    for place in WHOLE:
        int(fields[place])
    for place in DECIMAL:
        float(fields[place])
    for place in QUOTED:
        if fields[place] not in EMPTY and not LITERAL.fullmatch(fields[place]):
            raise ValueError(f"not a text in quotes: {fields[place]:.60}")
    return fields


def _kind(flags: str) -> str:
    """disBatch 1 left out blanks at the end of the flags."""
    return flags[0] if flags[0] in (BARRIER, CHECK) else flags[3:4] or TASK


def _text(field: str) -> str:
    return "" if field in EMPTY else str(ast.literal_eval(field))


def summary(text: str) -> tuple[str, int, int]:
    """(kind, task, return code) of a line, which is looked at as `StatusLine.from_line` does.  Raises ValueError."""
    fields = _fields(text)
    return _kind(fields[0]), int(fields[1]), int(fields[6])


def brief(text: str) -> tuple[str, int, int]:
    """The same of a line that we have written, so that it is looked at no closer: five times as fast."""
    flags, task, _, _, _, _, code, _ = text.split("\t", 7)
    return _kind(flags), int(task), int(code)


def read(path: str, bad: list[BadLine]) -> Iterator[StatusLine]:
    """The records of a status file, in its order; lines that can't be read are added to ``bad``.  Raises OSError."""
    with open(path, "rb") as file:
        for _, record in scan(file, path, bad, StatusLine.from_line):
            yield record


def failure(path: str, task: int) -> StatusLine | None:
    """The first record of a task that has failed, or None.  The file, which may be long, is searched, not parsed."""
    number = b"\t%d\t" % task
    if not os.path.getsize(path):           # which can't be mapped
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(number)
        while at >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            if at - start == FLAGS_WIDTH and data[start:start + 1] == b"R" and data[at - 1:at] == TASK.encode():
                return StatusLine.from_line(data[start:data.find(b"\n", at)].decode())
            at = data.find(number, at + 1)
    return None


def scan(file: BinaryIO, path: str, bad: list[BadLine], reader: Callable[[str], T]) -> Iterator[tuple[int, T]]:
    """Where each record of a status file begins, and what a function makes of its line."""
    place = 0
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8").removesuffix("\n")
            if not text.startswith("ROE["):
                yield place, reader(text)
        except ValueError as error:             # UnicodeDecodeError is one
            bad.append(BadLine(path, number, str(error)))
        place += len(line)


class StatusFile:
    """A status file to append to.  A last line that is not whole, as a killed writer leaves it, is cut off.

    target  its path, or a file opened for reading and writing in binary, which remains the caller's to close
    header  begin an empty file with the line that names the fields
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO, header: bool = False) -> None:
        if isinstance(target, (str, os.PathLike)):
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._file: BinaryIO = os.fdopen(fd, "r+b", 0)
        else:
            self._file = target
        self._end = whole_lines(self._file)
        self._file.truncate(self._end)
        if header and not self._end:
            self._append(HEADER)

    def write(self, record: StatusLine) -> None:
        """Append a record; it is in the file when this returns.  Raises OSError, and the file is as before."""
        self._append(record.to_line())

    def _append(self, text: str) -> None:
        line = text.encode("utf-8") + b"\n"
        left = memoryview(line)
        try:
            self._file.seek(self._end)
            while left:
                left = left[self._file.write(left):]
            self._file.flush()
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> StatusFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def whole_lines(file: BinaryIO, chunk: int = 1 << 16) -> int:
    """Where the last line ends that has its newline."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - chunk)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0

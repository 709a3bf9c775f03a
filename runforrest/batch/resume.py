"""Resuming: which tasks of a task file are skipped, as the status files of earlier runs have their records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from runforrest.batch.directives import TaskLine
from runforrest.batch.statusfile import SKIPPED, TASK, BadLine, StatusLine, scan, summary
from runforrest.errors import InvalidArgument, TaskFileError

# An entry packs a record's place in its file, the number of the file and the return code into one number:
# a dict of a million of them takes some 100 MB.
FILES = 1 << 10
CODES = 1 << 32


class Resume:
    """The records of earlier runs.  The files stay open until `close`, as records are read again when they are wanted.

    Only records of tasks count, and those of tasks that were skipped, as what they repeat.  Within a file the smallest
    return code counts, as in disBatch; of several files the first that has a success, then the smallest code.

    retry    run again what has failed
    force    skip by number alone, whatever the line says now
    task_file   its name, for errors
    bad      lines that could not be read
    """

    def __init__(self, paths: Sequence[str], retry: bool = False, force: bool = False,
                 task_file: str = "the task file") -> None:
        if len(paths) >= FILES:
            raise InvalidArgument(f"more than {FILES} status files to resume from", argument="resume_from")
        self.paths = paths
        self.retry = retry
        self.force = force
        self.task_file = task_file
        self.bad: list[BadLine] = []
        self._best: dict[int, int] = {}
        self._files: list[BinaryIO] = []
        try:
            for path in paths:
                self._merge(self._read(path))
        except BaseException:
            self.close()
            raise

    def _read(self, path: str) -> dict[int, int]:
        best: dict[int, int] = {}
        number = len(self._files)
        try:
            self._files.append(open(path, "rb"))        # noqa: SIM115 (closed by `close`)
            if not self._files[-1].seekable():
                raise InvalidArgument(f"can't resume from {path}, as it can be read only once", argument="resume_from")
            for place, (kind, task, code) in scan(self._files[-1], path, self.bad, summary):
                if kind in (TASK, SKIPPED) and (task not in best or code < _code(best[task])):
                    best[task] = _entry(place, number, code)
        except OSError as error:
            raise InvalidArgument(f"can't resume from the status file {path}: {error.strerror}",
                                  argument="resume_from") from error
        return best

    def _merge(self, others: dict[int, int]) -> None:
        if not self._best:
            self._best = others
            return
        for task, entry in others.items():
            known = self._best.get(task)
            if known is None or _rank(_code(entry)) < _rank(_code(known)):
                self._best[task] = entry

    def __len__(self) -> int:
        """How many tasks have a record."""
        return len(self._best)

    def record(self, task: TaskLine) -> StatusLine | None:
        """The record to write for a task that is skipped, or None: it is to be run.

        Raises TaskFileError if the task is not the one of which there is a record.
        """
        entry = self._best.get(task.task)
        if entry is None:
            return None
        if self.retry and _code(entry):
            return None
        line, whole = self._line(entry)
        old = StatusLine.from_line(line, SKIPPED)
        if self.force or ((old.line, old.repeat) == (task.line, task.repeat) and old.is_of(task.command)):
            return old
        if not whole:               # the writer was killed in the middle of it
            return None
        raise self._mismatch(task, old, self.paths[_file(entry)], self._line_number(entry))

    def _line(self, entry: int) -> tuple[str, bool]:
        file = self._files[_file(entry)]
        file.seek(_place(entry))
        line = file.readline().decode("utf-8")
        return line.removesuffix("\n"), line.endswith("\n")

    def _line_number(self, entry: int) -> int:
        file, left = self._files[_file(entry)], _place(entry)
        file.seek(0)
        number = 1
        while left > 0:
            left -= len(file.readline())
            number += 1
        return number

    def _mismatch(self, task: TaskLine, old: StatusLine, path: str, number: int) -> TaskFileError:
        def shown(line: int, repeat: int, command: str) -> str:
            return f"{command[:200]!r} in line {line}{f', index {repeat}' if repeat >= 0 else ''}"
        return TaskFileError(
            f"task {task.task} is another one than in the run that is to be resumed\n"
            f"  {self.task_file} has {shown(task.line, task.repeat, task.command)}\n"
            f"  {path} (line {number}) has {shown(old.line, old.repeat, old.command)}\n"
            "Make the task file again what it was, up to this line (new tasks may be added at its end); or, if only "
            "the look of lines has changed and the tasks are in their old order, resume with --force-resume",
            file=path, line=number)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> Resume:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def same_file(path: str, other: str) -> bool:
    """Whether these are the same, once links are followed."""
    return os.path.realpath(path) == os.path.realpath(other)


def name_aside(path: str) -> str:
    """What a file or a folder can be renamed to, so that another one can take its place."""
    number = 1
    while os.path.lexists(f"{path}.{number}"):
        number += 1
    return f"{path}.{number}"


def put_back(aside: str, path: str) -> None:
    """Have a status file again what it was before it was renamed; what has been written to it since then stays."""
    if aside and os.path.exists(aside) and not (os.path.exists(path) and os.path.getsize(path)):
        os.replace(aside, path)


def _entry(place: int, file: int, code: int) -> int:
    code = max(1 - CODES // 2, min(code, CODES // 2 - 1))
    return (place * FILES + file) * CODES + code + CODES // 2


def _code(entry: int) -> int:
    return entry % CODES - CODES // 2


def _file(entry: int) -> int:
    return entry // CODES % FILES


def _place(entry: int) -> int:
    return entry // (CODES * FILES)


def _rank(code: int) -> tuple[bool, int]:
    return code != 0, code

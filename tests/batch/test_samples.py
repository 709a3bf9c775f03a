"""Task files that disBatch has run, read by us: the same numbers, lines, indexes and commands as in its status file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runforrest.batch.directives import Barrier, PerEngine, TaskLine, parse
from runforrest.batch.statusfile import BARRIER, CHECK, PER_ENGINE, StatusLine
from runforrest.errors import TaskFileError
from tests.batch.sampled import SAMPLES, records, tasks

# What is refused here, by sample: disBatch passes over these lines, or takes them for something else than was meant.
REFUSED = {
    "lines": {12, 13, 14, 15},
    "repeat": {6, 7, 12, 13, 14, 15, 16, 18, 22, 23, 24, 25, 26, 31, 32},
    "barrier": {10, 14, 20, 22, 24, 26, 28},
    "prefix-suffix": {7, 21},
}
# disBatch was stopped before it had done all.
CUT_SHORT = {"check-fail", "engine-stopped-zombie", "perengine-start-fails"}
WHOLE = sorted(path.parent.name for path in SAMPLES.glob("*/status.txt"))


def mended(lines: list[bytes]) -> tuple[list[TaskLine | Barrier | PerEngine], set[int]]:
    """What is left of a task file without the lines that are refused, and the numbers of these."""
    lines = list(lines)
    refused: set[int] = set()
    while True:
        try:
            return list(parse(lines, "Tasks")), refused
        except TaskFileError as error:
            number = vars(error)["line"]
            assert number not in refused
            refused.add(number)
            lines[number - 1] = b"#\n"


def seen(items: list[StatusLine]) -> list[tuple[int, int, int, str]]:
    """(number, line, index, command), by number; no record twice."""
    return sorted({(r.task, r.line, r.repeat, r.command) for r in items})


@pytest.mark.parametrize("sample", WHOLE)
def test_as_disbatch_read_it(sample: str, tried: Callable[[str, int], None]) -> None:
    items, refused = mended(tasks(sample))
    assert refused == REFUSED.get(sample, set())
    theirs = records(sample)
    for record in theirs:
        if record.kind == PER_ENGINE:
            assert any(isinstance(i, PerEngine) and (i.task, i.line) == (record.task, record.line)
                       and record.is_of(i.command) for i in items)
    expected = seen([r for r in theirs if r.kind != PER_ENGINE and r.line not in refused])
    ours = [i for i in items if not isinstance(i, PerEngine)]
    assert [i.task for i in ours] == list(range(len(ours)))
    if sample in CUT_SHORT:
        assert len(expected) < len(ours)
        ours = ours[:len(expected)]
    assert len(ours) == len(expected)
    by_number = {record.task: record for record in theirs if record.kind != PER_ENGINE}
    for item, (number, line, repeat, command) in zip(ours, expected, strict=True):
        if not refused:
            assert item.task == number
        index = item.repeat if isinstance(item, TaskLine) else -1
        assert (item.line, index) == (line, repeat)
        assert by_number[number].is_of(item.command), (item.command, command)
        kind = by_number[number].kind
        assert isinstance(item, Barrier) == (kind in (BARRIER, CHECK))
        assert not isinstance(item, Barrier) or item.check == (kind == CHECK)
    tried("records of disBatch compared with what we read in its task files", len(expected))


def test_the_samples_are_there() -> None:
    assert len(WHOLE) > 15 and set(REFUSED) | CUT_SHORT <= set(WHOLE)

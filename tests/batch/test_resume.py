"""Which tasks a resumed run skips: the runs of disBatch, ours where it loses something, and files of any kind."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.batch.begin import begin, make_room
from runforrest.batch.directives import TaskLine, parse
from runforrest.batch.options import BatchOptions
from runforrest.batch.plan import Plan
from runforrest.batch.resume import Resume
from runforrest.batch.statusfile import LATE, PER_ENGINE, SKIPPED, TASK, StatusLine, written
from runforrest.errors import InvalidArgument, TaskFileError, TaskListExists
from tests.batch.sampled import SAMPLES, records, tasks


def commands(sample: str) -> list[TaskLine]:
    return [item for item in parse(tasks(sample), "Tasks") if isinstance(item, TaskLine)]


def skips(sample: str, files: Sequence[str] = ("old",), retry: bool = False,
          force: bool = False) -> dict[int, StatusLine]:
    """The records of the tasks that are skipped."""
    with Resume([str(SAMPLES / sample / file) for file in files], retry, force) as resume:
        found = {task.task: resume.record(task) for task in commands(sample)}
    return {task: record for task, record in found.items() if record is not None}


# (sample, what disBatch was given)
ALIKE = [
    ("r-partial", {}), ("r-partial-R", {"retry": True}), ("r-two-files", {"files": ["old", "old2"], "retry": True}),
    ("r-best-wins", {}), ("r-negative-R", {"retry": True}), ("r-tab-command", {}), ("r-bytes-command", {}),
    ("r-1.x-five-flags", {}), ("r-header", {}), ("r-barrier-became-task", {}), ("r-changed-failed-R", {"retry": True}),
    ("r-changed-undone", {}), ("r-line-appended", {}), ("r-shorter-file", {}), ("r-P-Z-ignored", {}),
    ("r-all-done", {}),
    ("r-line-inserted-force", {"force": True}),
    ("r-all-sorts", {"files": ["one_status.txt"], "new": "two_status.txt"}),
    ("r-twice-same", {"files": ["a_status.txt", "a_status.txt"], "retry": True, "new": "b_status.txt"}),
    ("r-chain", {"files": ["r1_status.txt"], "retry": True, "new": "r2_status.txt"}),
    ("r-chain", {"files": ["r1_status.txt", "r2_status.txt"], "retry": True, "new": "r4_status.txt"}),
]


@pytest.mark.parametrize(("sample", "given"), ALIKE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ALIKE)])
def test_as_disbatch_does(sample: str, given: dict[str, object], tried: Callable[[str, int], None]) -> None:
    """The same tasks are skipped, with the same records in the new status file."""
    options = dict(given)
    theirs = records(sample, str(options.pop("new", "new_status.txt")))
    ours = skips(sample, **options)  # type: ignore[arg-type]
    expected = {r.task: r.to_line() for r in theirs if r.kind == SKIPPED}
    assert {task: record.to_line() for task, record in ours.items()} == expected
    ran = {r.task for r in theirs if r.kind == TASK}
    assert not ran & set(ours)
    tried("tasks that resumed runs of disBatch and we have skipped alike", len(expected))


def test_where_disbatch_repeats_work() -> None:
    # a chain of resumed runs needs its last status file only
    assert set(skips("r-chain", ["r2_status.txt"], retry=True)) == {0, 2, 4, 5}
    assert set(skips("r-S-lines-ignored")) == {0, 1}
    # what disBatch 1 wrote, and commands that look like bytes
    assert set(skips("r-old-1.x-format")) == {0}
    assert set(skips("r-command-starts-b-quote")) == {0}
    # a missing newline at the end; a last record that was not written to its end is none
    assert set(skips("r-no-final-newline")) == {0, 2}
    with Resume([str(SAMPLES / "r-garbage" / "old")]) as resume:
        assert [task.task for task in commands("r-garbage") if resume.record(task)] == [0]
        assert [(b.line, b.reason) for b in resume.bad] == [
            (1, "1 fields instead of 15"), (2, "1 fields instead of 15"), (4, "5 fields instead of 15")]


@pytest.mark.parametrize(("sample", "line", "texts"), [
    ("r-changed-text", 3, ["task 2 is", "file has 'echo C' in line 3", "old (line 3) has 'echo c' in line 3"]),
    ("r-line-inserted", 1, ["task 0 is", "file has 'echo new' in line 1", "old (line 1) has 'echo a' in line 1"]),
    ("r-comment-added", 1, ["task 0 is", "file has 'echo a' in line 2", "old (line 1) has 'echo a' in line 1"]),
])
def test_a_mismatch_names_both(sample: str, line: int, texts: list[str]) -> None:
    with pytest.raises(TaskFileError) as info:
        skips(sample)
    assert all(text in str(info.value) for text in [*texts, "--force-resume"]), str(info.value)
    assert vars(info.value) == {"file": str(SAMPLES / sample / "old"), "line": line}


def test_several_files(tmp_path: Path) -> None:
    """Within a file the smallest code counts, as in disBatch; but what succeeded once, in whichever file, is done."""
    def skipped(*files: list[int]) -> int | None:
        paths = []
        for number, codes in enumerate(files):
            paths.append(str(tmp_path / f"{number}"))
            Path(paths[-1]).write_text("".join(line(0, code) for code in codes))
        with Resume(paths) as resume:
            found = resume.record(TaskLine(0, 1, -1, "c0"))
            return found.code if found else None
    assert skipped([0, -9]) == -9 and skipped([3, 0]) == 0 and skipped([3, 1, 2]) == 1
    assert skipped([-9], [0]) == 0 and skipped([0], [-9]) == 0 and skipped([-9, 3], [1], [2]) == -9
    assert skipped([]) is None


def test_what_can_be_read_only_once(tmp_path: Path) -> None:
    """As what a shell makes of ``<(...)``: it is read at the beginning, and by each that feeds."""
    here, there = os.pipe()
    os.close(there)
    try:
        with pytest.raises(InvalidArgument, match="only once"):
            Resume([f"/proc/self/fd/{here}"])
    finally:
        os.close(here)


def line(task: int, code: int = 0, kind: str = TASK) -> str:
    record = StatusLine(kind, task, task + 1, -1, "node", 17, code, 1.0, 2.0, command=written(f"c{task}"))
    return record.to_line() + "\n"


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 0, 1, 7, -9, -100]),
                                   st.sampled_from([TASK, TASK, SKIPPED, PER_ENGINE, LATE])), max_size=8), max_size=3),
       st.booleans())
def test_any_files(tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[int, int, str]]],
                   retry: bool) -> None:
    folder = tmp_path_factory.mktemp("status")
    for number, content in enumerate(files):
        (folder / str(number)).write_text("".join(line(*record) for record in content))
    with Resume([str(folder / str(number)) for number in range(len(files))], retry) as resume:
        for task in range(6):
            best = [min(codes) for content in files
                    if (codes := [c for t, c, kind in content if t == task and kind in (TASK, SKIPPED)])]
            expected = None if not best else 0 if 0 in best else min(best)
            found = resume.record(TaskLine(task, task + 1, -1, f"c{task}"))
            assert (found.code if found else None) == (None if retry and expected else expected)


def test_what_can_not_be_opened() -> None:
    with pytest.raises(InvalidArgument, match="nowhere: No such file"):
        Resume(["nowhere"])
    with pytest.raises(InvalidArgument, match="directory"):
        Resume(["/"])


def test_the_file_may_have_another_name_by_then(tmp_path: Path) -> None:
    """As when the new run's status file takes its place."""
    path = tmp_path / "status.txt"
    path.write_text(line(0) + line(1))
    with Resume([str(path)]) as resume:
        path.rename(tmp_path / "old.txt")
        path.write_text("")
        assert [bool(resume.record(TaskLine(n, n + 1, -1, f"c{n}"))) for n in range(3)] == [True, True, False]


def test_memory_of_many_records(tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    """Below 150 bytes for each, however long its line is."""
    path, count = tmp_path / "status.txt", 50_000
    with open(path, "w") as file:
        file.writelines(line(number)[:-1] + "x" * 500 + "\n" for number in range(count))
    tracemalloc.start()
    try:
        with Resume([str(path)]) as resume:
            assert len(resume) == count and tracemalloc.get_traced_memory()[0] < 150 * count
    finally:
        tracemalloc.stop()
    tried("status records held for resuming in less than 150 bytes each", count)


def test_numbers_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "status.txt"
    big = 10 ** 30
    path.write_text(line(0, big) + line(1, -big) + line(big))
    with Resume([str(path)]) as resume:
        found = [resume.record(TaskLine(n, n + 1, -1, f"c{n}")) for n in (0, 1, big)]
        assert [record.code for record in found if record] == [big, -big, 0]


def test_the_file_that_a_run_resumes_from_is_kept(tmp_path: Path) -> None:
    """disBatch loses it when the new run has the same prefix."""
    status, other = tmp_path / "x_status.txt", tmp_path / "other"
    for content in ("first", "second"):
        status.write_text(content)
        other.write_text("other")
        paths = room_for(tmp_path, [str(other), f"{tmp_path}/./x_status.txt"])
        assert [Path(path).read_text() for path in paths] == ["other", content] and status.read_text() == ""
    assert sorted(p.name for p in tmp_path.iterdir() if "status" in p.name or "list" in p.name) == [
        "x_status.txt", "x_status.txt.1", "x_status.txt.2", "x_tasklist", "x_tasklist.1"]
    with pytest.raises(TaskListExists):
        room_for(tmp_path, [])


def room_for(folder: Path, resume_from: list[str]) -> list[str]:
    """The files from which a run with the prefix x resumes, when it has made its own."""
    options = BatchOptions(task_file="-", resume_from=resume_from)
    plan = Plan("", "stdin", f"{folder}/x", options, str(folder), "")
    make_room(plan, print)
    begin(plan)
    return options.resume_from

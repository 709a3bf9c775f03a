"""What a task's file tells, whole or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask, side_records
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name

from .support import call_of, claim, finish, make, payload_of, result_of, runner, schedule, write


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    folder = make(tasklist_dir)
    runner(folder, "R")
    return folder


def call_in(fs: FileOps, path: str, task: StoredTask) -> bytes:
    fd = fs.open_read(path)
    try:
        return task.call(fd)
    finally:
        os.close(fd)


def put(folder: TaskFolder, name: str, data: bytes) -> tuple[str, Name]:
    folder.fs.create(f"todo/{name}", [data])
    parsed = Name.parse(name)
    assert parsed is not None
    return f"todo/{name}", parsed


def test_a_task_with_a_history(folder: TaskFolder) -> None:
    name = schedule(folder, "x", retries=9)
    outcomes = ["raised", "timed_out", "raised", "returned"]
    for outcome in outcomes:
        name = claim(folder, name, "R")
        task = StoredTask.open(folder.fs, f"doing/R/{name}", name)
        assert not task.has_result() and task.result() is None
        finish(folder, name, "R", outcome, payload=outcome.encode())
        task = StoredTask.open(folder.fs, f"doing/R/{name}", name)
        record = task.result()
        assert task.has_result() and record is not None and record["outcome"] == outcome
        assert task.end == task.size
        folder.release(name, "R")
    assert [a["outcome"] for a in task.attempts] == outcomes
    assert [a["number"] for a in task.attempts] == [1, 2, 3, 4]
    assert task.counts() == {"raised": 2, "timed_out": 1, "returned": 1}
    assert task.envelope["limits"] == {"retries": 9}
    assert call_in(folder.fs, f"todo/{name}", task) == call_of("x")
    assert payload_of(folder.fs, f"todo/{name}", name) == b"returned"
    earlier = Name("x", 2, task.attempts[1]["attempt"].partition("-")[2])
    assert payload_of(folder.fs, f"todo/{name}", earlier) == b"timed_out"


def test_the_name_counts_take_overs(folder: TaskFolder) -> None:
    name = claim(folder, schedule(folder, "x"), "R").taken().taken()
    folder.fs.create(f"todo/{name}", [call_of("x")])
    assert StoredTask.open(folder.fs, f"todo/{name}", name).counts() == {"lost": 2}


def test_results_beside_the_file(folder: TaskFolder) -> None:
    """After a take-over results go to tries/; they count as if they were in the file."""
    first = claim(folder, schedule(folder, "x"), "R")
    write(folder.fs, f"doing/R/{first}", first, outcome="raised")
    folder.release(first, "R")
    folder.fs.rename(f"todo/{first}", f"todo/{first.taken()}")
    second = claim(folder, first.taken(), "R")
    assert second.lost == 1
    write(folder.fs, f"doing/R/{second}", second, payload=b"second")
    assert folder.fs.listdir(".runforrest/tries") == [second.side()]
    task = StoredTask.open(folder.fs, f"doing/R/{second}", second)
    assert [a["outcome"] for a in task.attempts] == ["raised", "returned"] and task.has_result()
    assert payload_of(folder.fs, f"doing/R/{second}", second) == b"second"


def test_side_files_of_other_tasks(folder: TaskFolder) -> None:
    for other in ("x.test", "x.t", "x.t1-ab.t", "xy"):
        name = Name(other, 1, "ab", 1)
        write(folder.fs, "", name)
        assert len(side_records(folder.fs, name)) == 1
    assert side_records(folder.fs, Name("x", 5, "zz")) == []


def test_side_records_that_can_not_be_read(folder: TaskFolder) -> None:
    folder.fs.create(".runforrest/tries/x.t1-ab.pkl", [b"garbage"])
    os.symlink("/etc/passwd", folder.fs.path(".runforrest/tries/x.t2-ab.pkl"))
    assert side_records(folder.fs, Name("x", 3, "ab")) == []
    os.unlink(folder.fs.path(".runforrest/tries/x.t2-ab.pkl"))
    os.unlink(folder.fs.path(".runforrest/tries/x.t1-ab.pkl"))
    os.rmdir(folder.fs.path(".runforrest/tries"))
    assert side_records(folder.fs, Name("x", 3, "ab")) == []


def test_a_bare_pickle(folder: TaskFolder) -> None:
    path, name = put(folder, "mine.pkl", b"a pickle")
    task = StoredTask.open(folder.fs, path, name)
    assert task.envelope == {} and task.attempts == [] and task.counts() == {} and task.end == 8
    assert call_in(folder.fs, path, task) == b"a pickle"
    name = claim(folder, name, "R")
    finish(folder, name, "R", "raised")
    task = StoredTask.open(folder.fs, f"doing/R/{name}", name)
    assert task.envelope == {} and len(task.attempts) == 1
    assert call_in(folder.fs, f"doing/R/{name}", task).startswith(b"a pickle")
    assert payload_of(folder.fs, f"doing/R/{name}", name) == result_of("mine")


def test_truncated_at_every_byte(folder: TaskFolder) -> None:
    """Whatever is left: never an error, never a wrong result, and the call as long as its frame is whole."""
    name = claim(folder, schedule(folder, "x"), "R")
    whole_call = os.stat(folder.fs.path(f"doing/R/{name}")).st_size
    finish(folder, name, "R", "returned")
    data = folder.fs.read(f"doing/R/{name}")
    for cut in range(len(data)):
        path = f"fail/{name}"
        Path(folder.fs.path(path)).write_bytes(data[:cut])
        task = StoredTask.open(folder.fs, path, name)
        assert not task.has_result() and task.attempts == [] and task.counts() == {}
        assert payload_of(folder.fs, path, name) is None
        if cut >= whole_call:
            assert task.envelope["id"] == "x" and task.end == whole_call
            assert call_in(folder.fs, path, task) == call_of("x")
        else:
            assert task.envelope == {} and task.end == cut and call_in(folder.fs, path, task) == data[:cut]
    Path(folder.fs.path(path)).write_bytes(data)
    assert payload_of(folder.fs, path, name) == result_of("x")


def test_a_damaged_call(folder: TaskFolder) -> None:
    name = schedule(folder, "x")
    path = Path(folder.fs.path(f"todo/{name}"))
    path.write_bytes(b"C" + path.read_bytes()[1:])
    task = StoredTask.open(folder.fs, f"todo/{name}", name)
    with pytest.raises(ValueError, match="damaged"):
        call_in(folder.fs, f"todo/{name}", task)


def test_a_damaged_result_is_none(folder: TaskFolder) -> None:
    name = claim(folder, schedule(folder, "x"), "R")
    finish(folder, name, "R", payload=b"RESULT")
    path = Path(folder.fs.path(f"doing/R/{name}"))
    path.write_bytes(path.read_bytes().replace(b"RESULT", b"rESULT"))
    assert payload_of(folder.fs, f"doing/R/{name}", name) is None


def test_an_empty_file(folder: TaskFolder) -> None:
    path, name = put(folder, "empty.pkl", b"")
    task = StoredTask.open(folder.fs, path, name)
    assert (task.size, task.end, task.envelope, call_in(folder.fs, path, task)) == (0, 0, {}, b"")


def test_a_file_that_is_gone(folder: TaskFolder) -> None:
    for call in (lambda: StoredTask.open(folder.fs, "todo/x.pkl", Name("x")),
                 lambda: payload_of(folder.fs, "todo/x.pkl", Name("x"))):
        with pytest.raises(FileNotFoundError):
            call()


def test_a_frame_of_another_attempt_is_history_not_the_result(folder: TaskFolder) -> None:
    """A fenced runner that wrote late: its frame bears another attempt."""
    name = claim(folder, schedule(folder, "x"), "R")
    zombie = Name("x", 1, "zzzz")
    write(folder.fs, f"doing/R/{name}", zombie, payload=b"late")
    task = StoredTask.open(folder.fs, f"doing/R/{name}", name)
    assert not task.has_result() and payload_of(folder.fs, f"doing/R/{name}", name) is None
    finish(folder, name, "R", payload=b"right")
    assert payload_of(folder.fs, f"doing/R/{name}", name) == b"right"

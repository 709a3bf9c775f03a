"""`retry` and `clean`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from runforrest import defer
from runforrest.cli.exits import FAILED, OK, USAGE
from tests.cli import work
from tests.cli.programs import COMMAND, SECONDS, environment, files, inside, runforrest, tasklist


@pytest.fixture
def failed(tasklist_dir: Path) -> Path:
    """A list with one task done, and two failed in different ways."""
    tasks = tasklist(tasklist_dir, defer(work.double, 1), defer(work.fail, 0))
    tasks.schedule(defer(work.endless), timeout=0.1, grace=0)
    list(tasks.run(2, print_output=False))
    return tasklist_dir


def test_retry_one(failed: Path) -> None:
    ended = runforrest("retry", failed, "fail")
    assert (ended.returncode, ended.stdout) == (OK, f"1 task moved to todo/; `runforrest run {failed}` runs it\n")
    assert (files(failed, "todo"), files(failed, "fail")) == (["fail"], ["endless"])
    assert runforrest("run", failed).returncode == FAILED
    found = json.loads(runforrest("show", failed, "fail", "--json").stdout)
    assert [a["number"] for a in found["attempts"]] == [1, 2]


def test_retry_all(failed: Path) -> None:
    found = json.loads(runforrest("retry", failed, "--all", "--json").stdout)
    assert found["count"] == len(found["requeued"]) == 2
    assert files(failed, "todo") == ["endless", "fail"]
    assert json.loads(runforrest("retry", failed, "--all", "--json").stdout) == {
        "count": 0, "requeued": [], "waiting": [], "failed": []}


def test_retry_by_outcome(failed: Path) -> None:
    assert runforrest("retry", failed, "--outcome", "timed_out").returncode == OK
    assert (files(failed, "todo"), files(failed, "fail")) == (["endless"], ["fail"])


def test_retry_refuses(failed: Path) -> None:
    for arguments, expected in (
            ([], "nothing to retry"), (["fail", "--all"], "not both"), (["fail", "nonsense"], "no task 'nonsense'"),
            (["fail", "double"], "has not failed"), (["--outcome", "bored"], "'bored' is not one of"),
            (["l"], "2 tasks match 'l'")):
        ended = inside("retry", failed, *arguments)
        assert ended.returncode == USAGE and expected in ended.stderr and ended.stderr.count("\n") == 1
        assert files(failed, "fail") == ["endless", "fail"]     # nothing was moved, not even what was named well


def test_clean_some(failed: Path) -> None:
    found = json.loads(runforrest("clean", failed, "--fail", "--todo", "--yes", "--json").stdout)
    assert found == {"removed": {"todo": 0, "fail": 2}}
    assert (files(failed, "done"), files(failed, "fail")) == (["double"], [])


def test_clean_all_keeps_foreign_files(failed: Path) -> None:
    (failed / "notes.txt").write_text("mine")
    ended = runforrest("clean", failed, "--all", "--yes")
    assert (ended.returncode, ended.stdout) == (OK, "removed 0 in todo/, 1 in done/, 2 in fail/\n")
    assert [path.name for path in failed.iterdir()] == ["notes.txt"]


def test_clean_all_removes_the_folder(failed: Path) -> None:
    assert runforrest("clean", failed, "--all", "--yes").returncode == OK
    assert not failed.exists()


def test_clean_refuses(failed: Path) -> None:
    for arguments, expected in ((["--yes"], "choose among --todo, --done and --fail"), (["--all"], "say --yes")):
        ended = runforrest("clean", failed, *arguments)
        assert ended.returncode == USAGE and expected in ended.stderr
        assert files(failed, "fail") == ["endless", "fail"]


@pytest.mark.parametrize(("answer", "code", "left"), [("n", FAILED, ["endless", "fail"]), ("y", OK, [])])
def test_clean_asks_on_a_terminal(failed: Path, answer: str, code: int, left: list[str]) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, "clean", str(failed), "--fail"], stdin=theirs, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env=environment()) as program:
        os.write(ours, answer.encode() + b"\n")
        _, said = program.communicate(timeout=SECONDS)
    os.close(ours)
    os.close(theirs)
    assert f"Remove 2 in fail/ of {failed} for good?".encode() in said
    assert (program.returncode, files(failed, "fail")) == (code, left)

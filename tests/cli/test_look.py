"""`status`, `ls`, `show`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from runforrest import defer
from runforrest.cli.exits import INTERRUPTED, OK, USAGE
from runforrest.cli.look import _line
from runforrest.status import Row
from tests.cli import work
from tests.cli.programs import SECONDS, files, inside, runforrest, start, tasklist
from tests.helpers import wait_for


@pytest.fixture
def finished(tasklist_dir: Path) -> Path:
    """A list with two tasks done, one failed, one waiting."""
    tasks = tasklist(tasklist_dir, defer(work.double, 1))
    tasks.schedule(defer(work.double, 2), name="another one", metadata={"seed": 7})
    tasks.schedule(defer(work.fail, 0), timeout=60, env={"FROM_TASK": "x"})
    list(tasks.run(2, print_output=False))
    tasks.schedule(defer(work.double, 3), name="late")
    return tasklist_dir


def test_status(finished: Path) -> None:
    text = runforrest("status", finished)
    assert text.returncode == OK
    assert text.stdout.splitlines() == [str(finished), "todo 1  doing 0  done 2  fail 1",
                                        "nobody is at work; `runforrest run` starts a runner"]
    found = json.loads(runforrest("status", finished, "--json").stdout)
    assert [found[state] for state in ("todo", "doing", "done", "fail")] == [1, 0, 2, 1]
    assert (found["directory"], found["format"], found["runners"]) == (str(finished), 1, [])


def test_status_names_who_is_at_work(tasklist_dir: Path, tmp_path: Path) -> None:
    tasklist(tasklist_dir, defer(work.until, str(tmp_path / "started"), str(tmp_path / "go")))
    with start("run", tasklist_dir, "-n", 1, stderr=tmp_path / "said") as program:
        wait_for((tmp_path / "started").exists, SECONDS)
        found = json.loads(runforrest("status", tasklist_dir, "--json").stdout)
        text = runforrest("status", tasklist_dir).stdout
        listed = runforrest("ls", tasklist_dir, "doing").stdout
        shown = runforrest("show", tasklist_dir, "until").stdout
        refused = runforrest("clean", tasklist_dir, "--all", "--yes")
        program.send_signal(signal.SIGINT)
        (tmp_path / "go").touch()
        assert program.wait(SECONDS) == INTERRUPTED
    (runner,) = found["runners"]
    assert (runner["state"], runner["pid"]) == ("alive", program.pid)
    assert [task["name"] for task in runner["tasks"]] == ["until"] and runner["tasks"][0]["since"]
    assert f"runner {runner['name']} alive" in text and "claimed" in text
    assert f"at {runner['name']}" in listed
    assert f"claimed by {runner['name']}" in shown and "none so far" in shown
    assert refused.returncode == USAGE and runner["name"] in refused.stderr
    assert files(tasklist_dir, "done") == ["until"]


def test_ls(finished: Path) -> None:
    lines = runforrest("ls", finished).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["todo", "done", "done", "fail"]
    assert "ZeroDivisionError" in lines[-1]
    rows = [json.loads(line) for line in runforrest("ls", finished, "--json").stdout.splitlines()]
    assert [(row["state"], row["name"], row["outcome"]) for row in rows] == [
        ("todo", "late", ""), ("done", "double", "returned"), ("done", "another_one", "returned"),
        ("fail", "fail", "raised")]
    assert all((finished / row["file"]).exists() for row in rows)


def test_ls_chooses(finished: Path) -> None:
    for arguments, names in (
            (["done"], ["double", "another_one"]), (["todo"], ["late"]), (["doing"], []),
            (["--outcome", "raised"], ["fail"]), (["--name", "*a*", "done"], ["another_one"]),
            (["--limit", "2"], ["late", "double"]), (["--limit", "0"], ["late", "double", "another_one", "fail"])):
        ended = inside("ls", finished, "--json", *arguments)
        assert [json.loads(line)["name"] for line in ended.stdout.splitlines()] == names, arguments
        assert ("there are more" in ended.stderr) == ("2" in arguments)


def test_ls_into_a_closed_pipe(finished: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("ls", finished, stderr=finished.parent / "said", stdout=writer) as program:
        os.close(writer)
        program.wait(SECONDS)
    assert "Traceback" not in (finished.parent / "said").read_text()


def test_show(finished: Path) -> None:
    text = runforrest("show", finished, "fail").stdout
    assert "attempt 1: raised" in text
    assert "ZeroDivisionError" in text and "return marker // x" in text
    assert "    about to fail" in text
    assert "timeout=60" in text and "FROM_TASK=x" in text
    found = json.loads(runforrest("show", finished, "fail", "--json").stdout)
    assert (found["state"], found["name"], found["envelope"]["label"]) == ("fail", "fail", "fail")
    (attempt,) = found["attempts"]
    assert (attempt["outcome"], attempt["number"], attempt["output"]) == ("raised", 1, "about to fail\n")
    assert attempt["traceback"].startswith("Traceback") and attempt["pid"] and attempt["host"]
    assert "metadata    {'seed': 7}" in runforrest("show", finished, "another one").stdout


def test_show_an_attempt_that_had_no_process(finished: Path) -> None:
    assert inside("cancel", finished, "late").returncode == 0
    text = inside("show", finished, "late").stdout
    assert "attempt 1: cancelled" in text and "runner " in text and "None" not in text


def test_ls_tells_all_of_why_a_task_was_refused() -> None:
    why = "the file was not unpickled, " + "as others may have written it, " * 5 + "so look who did"
    row = Row("fail", "x", "x", "fail/x.pkl", 1, 0, outcome="refused", error="Untrusted", message=why)
    assert _line(row).endswith("so look who did")


def test_show_by_a_path_that_the_shell_completed(finished: Path) -> None:
    (path,) = (finished / "fail").glob("*.pkl")
    relative = runforrest("show", finished.name, f"{finished.name}/fail/{path.name}", cwd=finished.parent)
    assert "attempt 1: raised" in relative.stdout


def test_show_long_output_and_control_characters(tasklist_dir: Path) -> None:
    list(tasklist(tasklist_dir, defer(work.shout, 300_000)).run(1, print_output=False))
    text = runforrest("show", tasklist_dir, "shout").stdout
    (log,) = (tasklist_dir / "done").glob("*.log")
    assert str(log) in text and "output (the end of 293 KiB)" in text
    assert "\x1b" not in text and "\\x1b[2Jgone" in text


def test_show_none_or_several(finished: Path) -> None:
    none = runforrest("show", finished, "nonsense")
    assert none.returncode == USAGE and "no task 'nonsense'" in none.stderr
    several = inside("show", finished, "e")
    assert several.returncode == USAGE and "3 tasks match 'e': done/" in several.stderr
    assert none.stderr.count("\n") == several.stderr.count("\n") == 1

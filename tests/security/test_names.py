"""Names can't lead out of the list, and nothing that others chose takes over a terminal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer, errors
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import open_list
from runforrest.model.names import Name, clean_label
from tests.cli.programs import runforrest

from .planting import Canary, change_settings, make, only, opened, result, rewrite, run, tree

EVIL = "\x1b]0;owned\x07\x1b[2J\r[red]\x9b31m\u202e"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.mark.parametrize("text", [
    "../x.pkl", "a/b.pkl", "/etc/x.pkl", "..pkl", "../../x.t1-ab.pkl", "x\0.pkl", "x\n.pkl", "\x1b[2J.pkl",
    "x\x7f.pkl", "x\x9b.pkl", ".pkl", "..", ".x.pkl"])
def test_names_that_are_no_tasks(text: str) -> None:
    assert Name.parse(text) is None


@pytest.mark.parametrize("text", ["ä b.pkl", "日本\u00a0語.pkl", "a..b.pkl", os.fsdecode(b"\xff.pkl")])
def test_names_that_are_odd_and_harmless(text: str) -> None:
    assert str(Name.parse(text)) == text


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/b", "\0", EVIL, "x.t1-ab", "x.lost3"])
def test_what_the_user_calls_a_task(place: Path, name: str) -> None:
    tasks = make(place / "tasks")
    outside = {path for path in tree(place) if not path.startswith("tasks")}
    id = tasks.schedule(defer(abs, -1), name=name)
    assert "/" not in id and only(place / "tasks", "todo").name == f"{id}.pkl" and id.isprintable()
    run(place / "tasks")
    assert only(place / "tasks", "done").name.startswith(id)
    assert {path for path in tree(place) if not path.startswith("tasks")} == outside
    assert Name.parse(clean_label(name) + ".pkl") == Name(clean_label(name))


@pytest.mark.parametrize("text", ["../../etc/passwd", "/etc/passwd", "todo/../../outside.pkl", "../outside.pkl",
                                  "doing/../../outside.pkl", "done/../../../outside.pkl", "todo/..", "..", "."])
@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_what_is_asked_for_on_the_command_line(place: Path, canary: Canary, command: str, text: str) -> None:
    make(place / "tasks")
    (place / "outside.pkl").write_bytes(canary.pickle)
    before = tree(place)
    ended = runforrest(command, place / "tasks", text)
    assert ended.returncode == 2 and "no task" in ended.stderr and tree(place) == before


def test_names_of_runners_and_requests(place: Path) -> None:
    make(place / "tasks")
    before = set(tree(place))
    for command in ("pause", "resume", "stop"):
        ended = runforrest(command, place / "tasks", "../../outside")
        assert ended.returncode == 2, ended.stdout
    assert set(tree(place)) == before


def test_a_heartbeat_and_requests_with_odd_names(place: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    for name in ("..@5", "...@dead", f"x{EVIL}@3", "@@", "ghost@99999999999999999999"):
        (place / "tasks" / ".runforrest" / "hb" / name).write_text("[]")
        (place / "tasks" / ".runforrest" / "requests" / f"cancel@{name}").write_text("[]")
        (place / "tasks" / ".runforrest" / "requests" / f"stop{name}").write_text("[]")
    before = {path for path in tree(place) if not path.startswith("tasks")}
    assert not CONTROL.search(runforrest("status", place / "tasks").stdout)
    [task] = run(place / "tasks")
    assert task.returnvalue == 1
    assert {path for path in tree(place) if not path.startswith("tasks")} == before


def test_a_foreign_name_is_told_without_its_control_characters(place: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    (place / "tasks" / "todo" / f"{EVIL}.pkl").write_bytes(b"N.")
    ended = runforrest("run", place / "tasks")
    assert ended.returncode == 0 and "owned" in ended.stderr and not CONTROL.search(ended.stderr)


def test_the_same_from_a_program(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(place / "tasks", defer(abs, -1))
    (place / "tasks" / "todo" / f"{EVIL}.pkl").write_bytes(b"N.")
    assert len(run(place / "tasks")) == 1
    said = capfd.readouterr().err
    assert "owned" in said and not CONTROL.search(said)


def test_texts_of_records_on_a_terminal(place: Path) -> None:
    """All that a task's file says, with sequences for the terminal in it."""
    make(place / "tasks")
    path = place / "tasks" / "fail" / "x.t1-ab.pkl"
    path.write_bytes(b"")
    fields: dict[str, Any] = dict.fromkeys(
        ("runner", "host", "pid", "started", "ended", "error", "message", "traceback", "output", "log", "signal"), EVIL)
    envelope: dict[str, Any] = dict.fromkeys(
        ("id", "name", "label", "scheduled", "host", "user", "python", "cwd", "chdir", "metadata"), EVIL)
    envelope.update(frame="envelope", limits={EVIL: EVIL}, env={EVIL: EVIL})
    rewrite(path, (envelope, b"N."), result(path, b"", "raised", **fields))
    (place / "tasks" / "doing" / f"runner{EVIL}").mkdir()
    for command in ("show", "ls", "status"):
        for more in ([], ["--json"]):
            ended = runforrest(command, place / "tasks", *(["x"] if command == "show" else []), *more)
            assert ended.returncode == 0 and "owned" in ended.stdout
            assert not CONTROL.search(ended.stdout), ended.stdout


def test_markup_is_text(place: Path) -> None:
    make(place / "tasks")
    path = place / "tasks" / "fail" / "x.t1-ab.pkl"
    path.write_bytes(b"")
    rewrite(path, ({"frame": "envelope", "id": "x"}, b"N."), result(path, b"", "raised", message="[red]x[/red]"))
    assert "[red]x[/red]" in runforrest("show", place / "tasks", "x").stdout


@pytest.mark.parametrize("values", [
    {"beat": 1e308}, {"beat": "1"}, {"beat": True}, {"beat": [1]}, {"lease": 1.5}, {"lease": 10**30}, {"lease": -1},
    {"durability": ["none"]}, {"group": 1}, {"group": "yes"}, {"key": 5}, {"created": {}}, {"format": "1"},
    {"format": True}])
def test_settings_that_can_not_be_meant(place: Path, values: dict[str, Any]) -> None:
    make(place / "tasks")
    change_settings(place / "tasks", **values)
    with pytest.raises(errors.NotATaskList, match=r"runforrest\.json is damaged"):
        opened(place / "tasks")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000,
                                  '{"format": 1, "key": "' + "x" * 10**6])
def test_settings_that_are_a_bomb(place: Path, text: str) -> None:
    make(place / "tasks")
    (place / "tasks" / "runforrest.json").write_text(text)
    with pytest.raises(errors.NotATaskList):
        open_list(FileOps(place / "tasks"))


def test_fields_of_settings_that_nobody_knows(place: Path) -> None:
    """Nothing in the file is a path, a name or a program."""
    make(place / "tasks", defer(abs, -1))
    change_settings(place / "tasks", todo="/etc", preload=["evil"], session="/etc/passwd", root="..", run="touch x")
    [task] = run(place / "tasks")
    assert task.returnvalue == 1


def test_a_record_that_is_nested_without_end(place: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    path = only(place / "tasks", "todo")
    from runforrest.folder import frames
    path.write_bytes(path.read_bytes() + b"".join(frames.encode(b'{"frame":' + b"[" * 50_000 + b"]" * 50_000 + b"}")))
    [task] = run(place / "tasks")
    assert task.returnvalue == 1


@pytest.mark.parametrize("record", [{"outcome": ["x"]}, {"outcome": {}}, {"number": "x"}, {"attempt": []},
                                    {"frame": "attempt", "ended": 5}])
def test_records_of_the_wrong_types(place: Path, record: dict[str, Any]) -> None:
    """A runner goes on, whatever an earlier record says."""
    tasks = TaskList(place / "tasks", durability="none")
    tasks.schedule(defer(abs, -1))
    path = only(place / "tasks", "todo")
    from runforrest.folder import frames
    path.write_bytes(path.read_bytes() + b"".join(frames.encode({"frame": "attempt", **record})))
    [task] = run(place / "tasks")
    assert task.returnvalue == 1
    assert json.loads(runforrest("show", place / "tasks", "abs", "--json").stdout)["state"] == "done"

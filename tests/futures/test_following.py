"""Following a list: each end is told, by its journals or by its folders, whatever a folder's times say."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from runforrest import TaskList
from runforrest.folder.following import SETTLED_NS, Following
from runforrest.folder.transitions import TaskFolder
from tests.runner.support import folder_of


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    TaskList(tasklist_dir, durability="none")
    return folder_of(tasklist_dir)


def put(folder: TaskFolder, name: str, stamp: int, state: str = "done") -> None:
    """A task that has ended, in a folder that was changed then."""
    path = Path(folder.fs.path(state))
    (path / f"{name}.t1-aaaa.pkl").touch()
    os.utime(path, ns=(stamp, stamp))


def look(following: Following) -> list[str]:
    return [f"{state}/{name.id}" for name, state in following.looked(lambda file: True)]


def test_a_folder_that_has_not_changed_is_not_listed_again(folder: TaskFolder) -> None:
    following, long_ago = Following(folder), time.time_ns() - 100 * SETTLED_NS
    put(folder, "a", long_ago)
    put(folder, "b", long_ago, "fail")
    assert look(following) == ["done/a", "fail/b"]
    assert look(following) == []
    put(folder, "c", long_ago + 1)
    assert sorted(look(following)) == ["done/a", "done/c"]
    following.forget()
    assert sorted(look(following)) == ["done/a", "done/c", "fail/b"]


def test_to_forget_while_somebody_looks(folder: TaskFolder) -> None:
    following, long_ago = Following(folder), time.time_ns() - 100 * SETTLED_NS
    put(folder, "a", long_ago)
    for _ in following.looked(lambda file: True):
        following.forget()
    assert look(following) == ["done/a"]
    assert look(following) == []


def test_one_that_has_just_changed_is(folder: TaskFolder) -> None:
    """As two changes in one tick of the clock look like one."""
    following, now = Following(folder), time.time_ns() + 100 * SETTLED_NS
    put(folder, "a", now)
    assert look(following) == ["done/a"]
    put(folder, "b", now)
    assert sorted(look(following)) == ["done/a", "done/b"]


def test_times_of_other_hosts_are_not_relied_upon(folder: TaskFolder) -> None:
    vars(folder)["local"] = False
    following, long_ago = Following(folder), time.time_ns() - 100 * SETTLED_NS
    put(folder, "a", long_ago)
    assert look(following) == look(following) == ["done/a"]


def test_journals(folder: TaskFolder) -> None:
    """What is in them already is not told, half a line is told when it is whole, and no other line is."""
    journal = Path(folder.fs.path(".runforrest/journal/x.jsonl"))
    journal.write_text(json.dumps({"task": "old", "state": "done"}) + "\n")
    following = Following(folder)
    with journal.open("a") as file:
        print("not json\n[]", json.dumps({"task": "again", "state": "todo"}), file=file, sep="\n")
        print(json.dumps({"task": "a", "state": "done", "pid": 3}), file=file)
        file.write('{"task": "b", "st')
    assert [(id, state, record["pid"]) for id, state, record in following.heard()] == [("a", "done", 3)]
    with journal.open("a") as file:
        file.write('ate": "fail"}\n')
    Path(folder.fs.path("history.jsonl")).write_text(json.dumps({"task": "c", "state": "done"}) + "\n")
    assert [id for id, _, _ in following.heard()] == ["b", "c"]
    assert list(following.heard()) == []

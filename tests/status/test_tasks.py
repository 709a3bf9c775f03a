"""Finding, listing and describing tasks."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from runforrest.errors import NoSuchTask
from runforrest.folder import layout
from runforrest.folder.attempts import write_attempt
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import create
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from runforrest.status import Place, describe, find, finder, list_tasks, places
from runforrest.status.tasks import SHOWN


class Bomb:
    """A pickle that must never be loaded here."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.abort, ()  # type: ignore[return-value]


class Counting(FileOps):
    listings = 0

    def before(self, operation: str, *args: object) -> None:
        self.listings += operation == "listdir"


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    fs = FileOps(tasklist_dir)
    made = TaskFolder(fs, create(fs, "none"))
    fs.mkdir("doing/R")
    return made


def schedule(folder: TaskFolder, label: str) -> Name:
    return folder.schedule(folder.new_id(0, label), pickle.dumps(Bomb()),
                           {"frame": "envelope", "label": label, "unknown field": 1})


def claim(folder: TaskFolder, name: Name) -> Name:
    claimed = folder.claim(name, "R")
    assert claimed is not None
    return claimed


def end(folder: TaskFolder, name: Name, outcome: str, state: str, message: str = "") -> Name:
    """Claim it, write the record of an attempt, and commit or release it."""
    name = claim(folder, name)
    record = {"frame": "attempt", "attempt": name.attempt, "number": name.tries, "outcome": outcome,
              "message": message}
    write_attempt(folder.fs, f"doing/R/{name}", name, record, pickle.dumps(Bomb()))
    assert folder.release(name, "R") if state == "todo" else folder.commit(name, "R", state)
    return name


# -- find ---------------------------------------------------------------------------------


def test_every_way_to_call_a_task(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(folder, "other")
    name = end(folder, schedule(folder, "simulate 7"), "raised", "fail")
    root = folder.fs.root
    monkeypatch.chdir(os.path.dirname(root))
    ways = [str(name), name.id, "simulate 7", "simulate_7", "late_7", "late 7", f"fail/{name}", f"{root}/fail/{name}",
            f"{os.path.basename(root)}/fail/{name}", f"./{os.path.basename(root)}/fail/{name}", name.attempt]
    for way in ways:
        assert find(folder.fs, way) == Place("fail", name), way
    for state in ("todo", "doing", "done"):
        with pytest.raises(NoSuchTask):
            find(folder.fs, name.id, (state,))


def test_a_claimed_task(folder: TaskFolder) -> None:
    name = claim(folder, schedule(folder, "work"))
    place = Place("doing", name, "R")
    assert find(folder.fs, "work") == find(folder.fs, place.path) == place
    assert place.path == f"doing/R/{name}"


def test_the_better_fit_wins(folder: TaskFolder) -> None:
    exact = schedule(folder, "sim")
    schedule(folder, "simulate")
    assert find(folder.fs, "sim").name == exact
    by_id = schedule(folder, exact.id)      # a task that is called what another one's id is
    assert find(folder.fs, exact.id).name == exact
    assert find(folder.fs, by_id.id).name == by_id


def test_a_part_of_the_name_comes_before_a_random_tag(folder: TaskFolder) -> None:
    for id in ("500-20261121T222325263258-abcd-work", "500-20261121T222325263259-efgh-abc"):
        folder.fs.create(f"todo/{id}.pkl", [b""])
    assert find(folder.fs, "ab").name.label == "abc"
    assert find(folder.fs, "abcd").name.label == "work"


def test_several(folder: TaskFolder) -> None:
    for number in range(SHOWN + 3):
        schedule(folder, f"work{number}")
    with pytest.raises(NoSuchTask, match=r"13 tasks match 'work': todo/.* and 3 more; give more") as caught:
        find(folder.fs, "work")
    assert len(caught.value.matches) == SHOWN + 3  # type: ignore[attr-defined]


def test_a_copy_in_another_state(folder: TaskFolder) -> None:
    """A person may run a task again with `cp done/x todo/`: then the path tells which is meant."""
    name = end(folder, schedule(folder, "work"), "returned", "done")
    (Path(folder.fs.root) / "todo" / str(name)).write_bytes(folder.fs.read(f"done/{name}"))
    with pytest.raises(NoSuchTask, match="2 tasks match"):
        find(folder.fs, name.id)
    assert find(folder.fs, f"todo/{name}").state == "todo"


def test_many_are_looked_up_together(folder: TaskFolder) -> None:
    """Ids and file names by one look at the list, not by one for each."""
    names = [schedule(folder, f"work{number}") for number in range(50)]
    names[7] = end(folder, names[7], "returned", "done")
    wanted = [*(name.id for name in names[:25]), *map(str, names[25:])]
    fs = Counting(folder.fs.root)
    found = list(map(finder(fs, wanted), wanted))
    assert found == [Place("done" if name.tries else "todo", name) for name in names]
    assert fs.listings == len(layout.EVERYWHERE) + 1            # and R's folder
    assert finder(fs, ["work3", "todo/" + str(names[4])])("work3").name == names[3]


def test_many_of_which_one_is_not_clear(folder: TaskFolder) -> None:
    name = end(folder, schedule(folder, "work"), "returned", "done")
    (Path(folder.fs.root) / "todo" / str(name)).write_bytes(folder.fs.read(f"done/{name}"))
    wanted = [name.id, str(name), f"todo/{name}", "nothing"]
    look_up = finder(folder.fs, wanted)
    for text, message in (name.id, "2 tasks match"), (str(name), "2 tasks match"), ("nothing", "no task"):
        with pytest.raises(NoSuchTask, match=message):
            look_up(text)
    assert look_up(f"todo/{name}").state == "todo"


@pytest.mark.parametrize("text", ["", "nothing", "todo/", "fail/x.pkl", "/etc/passwd", "../x.pkl", "doing/R", "*"])
def test_none(folder: TaskFolder, text: str) -> None:
    schedule(folder, "work")
    with pytest.raises(NoSuchTask) as caught:
        find(folder.fs, text)
    assert caught.value.matches == []  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)


def test_names_of_other_makers(folder: TaskFolder) -> None:
    """RunForrest's names are a uuid; a person's are anything."""
    folder.fs.create("todo/3f2504e0-4f89-11d3-9a0c-0305e82c3301.pkl", [b""])
    folder.fs.create("todo/my task.pkl", [b""])
    assert find(folder.fs, "3f2504e0").name.label == "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    assert find(folder.fs, "my task").path == "todo/my task.pkl"


# -- list ---------------------------------------------------------------------------------


def test_rows(folder: TaskFolder) -> None:
    first = end(folder, schedule(folder, "a"), "raised", "todo", "not yet")
    done = end(folder, first, "returned", "done")
    failed = end(folder, schedule(folder, "b"), "crashed", "fail", "a signal")
    claimed = claim(folder, schedule(folder, "c"))
    waiting = schedule(folder, "d")
    rows = list(list_tasks(folder.fs))
    assert [(r.state, r.id, r.runner, r.tries, r.outcome, r.message) for r in rows] == [
        ("todo", waiting.id, "", 0, "", ""), ("doing", claimed.id, "R", 1, "", ""),
        ("done", done.id, "", 2, "returned", ""), ("fail", failed.id, "", 1, "crashed", "a signal")]
    assert [r.name for r in list_tasks(folder.fs, outcome="crashed")] == ["b"]
    assert [r.name for r in list_tasks(folder.fs, ["todo", "fail"], name="[a-c]")] == ["b"]


def test_order_and_limit(folder: TaskFolder) -> None:
    names = [schedule(folder, f"work{number}") for number in range(30)]
    end(folder, schedule(folder, "last"), "returned", "done")
    assert [p.name for p in places(folder.fs, ["todo"])] == names
    assert [p.name for p in places(folder.fs, ["todo"], limit=7)] == names[:7]
    assert [p.name.label for p in places(folder.fs, limit=31)][-1] == "last"
    assert len(list(places(folder.fs, limit=30))) == 30
    assert len(list(list_tasks(folder.fs, limit=30))) == 30
    assert len(list(list_tasks(folder.fs, outcome="returned", limit=1))) == 1


def test_what_is_odd_is_left_out_or_told(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    (root / "done" / "README").touch()
    (root / "done" / "x.log").touch()
    (root / "done" / "bundle.pkl").mkdir()
    (root / "done" / "empty.pkl").touch()
    (root / "done" / "link.pkl").symlink_to("/etc/passwd")
    rows = list(list_tasks(folder.fs, ["done"]))
    assert [(r.name, r.outcome) for r in rows] == [("empty", ""), ("link", "")]
    assert "can't be read" in rows[1].message


# -- describe -----------------------------------------------------------------------------


def test_all_about_a_task(folder: TaskFolder) -> None:
    name = schedule(folder, "work")
    for outcome, state in (("raised", "todo"), ("timed_out", "todo"), ("returned", "done")):
        name = end(folder, name, outcome, state)
    found = describe(folder, Place("done", name))
    assert (found.envelope.id, found.envelope.label) == (name.id, "work")
    assert [(a.number, a.outcome) for a in found.attempts] == [(1, "raised"), (2, "timed_out"), (3, "returned")]
    assert found.size == os.path.getsize(folder.fs.path(found.place.path))
    assert found.to_json()["attempts"][2]["outcome"] == "returned"


def test_a_bare_pickle(folder: TaskFolder) -> None:
    folder.fs.create("todo/bare.pkl", [pickle.dumps(Bomb())])
    found = describe(folder, find(folder.fs, "bare"))
    assert (found.envelope.id, found.attempts) == ("bare", [])


def test_a_task_that_has_gone(folder: TaskFolder) -> None:
    with pytest.raises(NoSuchTask, match="not there any more"):
        describe(folder, Place("done", Name("gone")))

"""Cleaning removes what is ours, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runforrest.folder import layout
from runforrest.folder.cleaning import clean
from runforrest.folder.transitions import TaskFolder

from .support import claim, finish, make, runner, schedule, tree

FOREIGN = ["notes.txt", "todo/notes.txt", "done/data.csv", "done/results.log", "fail/README", "doing/notes.txt",
           "done/plots/a.pkl"]


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    """One task in every state, with all that may lie about."""
    folder = make(tasklist_dir)
    runner(folder, "R")
    for id in ("todo", "doing", "done", "fail"):
        schedule(folder, id)
    for id in ("doing", "done", "fail"):
        name = next(n for n in folder.names("todo") if n.id == id)
        mine = claim(folder, name, "R")
        if id != "doing":
            finish(folder, mine, "R")
            folder.commit(mine, "R", id)
            folder.fs.create(f"{id}/{str(mine)[:-4]}.log", [b"output"])
    for name in (layout.HISTORY, layout.SESSION, f"{layout.TRIES}/x.t1-ab.lost", f"{layout.DUP}/x", f"{layout.TMP}/x",
                 f"{layout.REQUESTS}/pause"):
        folder.fs.create(name, [b"x"])
    return folder


def add_foreign(root: Path) -> None:
    for name in FOREIGN:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("mine")


def test_all_of_it(folder: TaskFolder, tasklist_dir: Path) -> None:
    clean(folder.fs)
    assert not tasklist_dir.exists()
    clean(folder.fs)


def test_foreign_files_stay_and_the_folder_with_them(folder: TaskFolder, tasklist_dir: Path) -> None:
    add_foreign(tasklist_dir)
    clean(folder.fs)
    assert sorted(tree(tasklist_dir)) == sorted(FOREIGN)
    assert all((tasklist_dir / name).read_text() == "mine" for name in FOREIGN)


def test_the_list_itself_stays_if_asked(folder: TaskFolder, tasklist_dir: Path) -> None:
    clean(folder.fs, keep_folders=True)
    assert sorted(tree(tasklist_dir)) == [layout.SETTINGS]
    for state in ("todo", "done", "fail"):
        assert (tasklist_dir / state).is_dir()
    schedule(folder, "x")


@pytest.mark.parametrize("state", ["todo", "done", "fail"])
def test_one_state(folder: TaskFolder, tasklist_dir: Path, state: str) -> None:
    before = tree(tasklist_dir)
    clean(folder.fs, [state])
    gone = before - tree(tasklist_dir)
    if state == "todo":
        assert {name.split("/")[0] for name in gone} == {"todo", "doing"} and len(gone) == 2
        assert not (tasklist_dir / "doing/R").exists(), "claimed tasks of a runner that is gone"
    else:
        assert {name.split("/")[0] for name in gone} == {state} and len(gone) == 2, "the task, and its output"


def test_links_are_removed_not_followed(folder: TaskFolder, tasklist_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tasklist_dir / "todo/link.pkl").symlink_to(tmp_path / "target")
    clean(folder.fs)
    assert (tmp_path / "target").read_text() == "mine" and not tasklist_dir.exists()


def test_a_folder_that_is_called_like_a_task(folder: TaskFolder, tasklist_dir: Path) -> None:
    (tasklist_dir / "todo/mine.pkl").mkdir()
    (tasklist_dir / "todo/mine.pkl/file").write_text("mine")
    clean(folder.fs)
    assert sorted(tree(tasklist_dir)) == ["todo/mine.pkl/file"]

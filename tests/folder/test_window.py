"""The front of ``todo/`` that a runner looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from runforrest.folder import window
from runforrest.folder.fsio import FileOps
from runforrest.folder.window import CROWD, TodoWindow
from runforrest.model.names import Name, make_id

from .support import Recording


@pytest.fixture
def fs(tmp_path: Path) -> Recording:
    (tmp_path / "todo").mkdir()
    return Recording(tmp_path)


def fill(fs: FileOps, *names: str) -> None:
    for name in names:
        Path(fs.path("todo"), name).write_bytes(b"")


def drawn(of: TodoWindow, crowded: bool = False) -> list[str]:
    found = []
    while (name := of.pop(crowded)) is not None:
        found.append(name.id)
    return found


def test_the_urgent_and_old_come_first(fs: Recording) -> None:
    ids = [make_id(p, f"20260101T0000000000{s:02d}", "abcd", "x") for p in (5, 0, -5) for s in range(10)]
    fill(fs, *(f"{id}.pkl" for id in reversed(ids)), "mine.pkl")
    todo = TodoWindow(fs, 4, lambda name: None)
    assert todo.refill() and todo.listed == 31 == len(todo)
    assert drawn(todo) == [*ids, "mine"]
    assert len(todo) == 0 and todo.pop(True) is None


def test_an_empty_list(fs: Recording) -> None:
    todo = TodoWindow(fs, 1, lambda name: None)
    assert not todo.refill() and todo.pop(False) is None and todo.listed == 0


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TodoWindow(FileOps(tmp_path), 1, lambda name: None).refill()


def test_memory_does_not_grow_with_the_list(fs: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "SMALLEST", 10)
    monkeypatch.setattr(window, "SHARE", 16)
    fill(fs, *(f"{n:04d}.pkl" for n in range(1600)))
    todo = TodoWindow(fs, 1, lambda name: None)
    assert todo.refill() and todo.listed == 1600 and len(todo) == 100
    assert drawn(todo) == [f"{n:04d}" for n in range(100)]
    fill(fs, "0000.pkl")
    for n in range(50, 1600):
        Path(fs.path(f"todo/{n:04d}.pkl")).unlink()
    assert todo.refill() and len(todo) == 10


def test_it_lists_once_for_many(fs: Recording) -> None:
    fill(fs, *(f"{n:04d}.pkl" for n in range(500)))
    todo = TodoWindow(fs, 1, lambda name: None)
    todo.refill()
    assert len(drawn(todo)) == 500 and fs.count("listdir") == 2


def test_foreign_names_are_told_once_and_left(fs: Recording) -> None:
    told: list[str] = []
    fill(fs, "a.pkl", "notes.txt", ".hidden.pkl", ".nfs00012.pkl", "b.pkl", "x" * 251 + ".pkl")
    todo = TodoWindow(fs, 1, told.append)
    for _ in range(3):
        todo.refill()
        assert drawn(todo) == ["a", "b"]
    assert sorted(told) == sorted(["notes.txt", "x" * 251 + ".pkl"])
    assert len(fs.listdir("todo")) == 4


def test_only_what_is_wanted(fs: Recording) -> None:
    fill(fs, "a.pkl", "b.pkl", "c.pkl")
    todo = TodoWindow(fs, 1, lambda name: None, lambda name: name.id != "b")
    assert todo.refill() and drawn(todo) == ["a", "c"]
    todo = TodoWindow(fs, 1, lambda name: None, lambda name: False)
    assert not todo.refill() and todo.listed == 3


def test_alone_in_order_in_a_crowd_near_the_front(fs: Recording) -> None:
    fill(fs, *(f"{n:04d}.pkl" for n in range(200)))
    todo = TodoWindow(fs, 2, lambda name: None)
    todo.refill()
    left = [f"{n:04d}" for n in range(200)]
    out_of_order = 0
    while (name := todo.pop(True)) is not None:
        at = left.index(name.id)
        assert at < 2 * CROWD
        out_of_order += at > 0
        left.remove(name.id)
    assert not left and out_of_order > 50


def test_a_crowd_and_one_alone_take_turns(fs: Recording) -> None:
    """What a random draw leaves stays in order."""
    fill(fs, *(f"{n:04d}.pkl" for n in range(100)))
    todo = TodoWindow(fs, 1, lambda name: None)
    todo.refill()
    taken = {todo.pop(True), todo.pop(True), todo.pop(True)}
    rest = drawn(todo)
    assert rest == sorted(rest) and len(rest) == 97
    assert not {Name(r) for r in rest} & taken


def test_forget(fs: Recording) -> None:
    fill(fs, "a.pkl")
    todo = TodoWindow(fs, 1, lambda name: None)
    todo.refill()
    todo.forget()
    assert len(todo) == 0 and todo.pop(False) is None

"""A folder of keys is made by one of all who come at the same moment, whole before anybody uses it."""

from __future__ import annotations

import errno
import json
import multiprocessing.synchronize
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runforrest import once
from runforrest.folder import identity
from runforrest.once import making, settings
from runforrest.once.errors import KeyStoreError
from runforrest.once.files import KeyFiles
from runforrest.once.folder import FolderStore
from tests.helpers import wait_for
from tests.hosts.machines import ROOT

Tried = Callable[[str, int], None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "keys"


def mark_of(place: Path) -> Path:
    return place.parent / ".keys.making"


class Watched(KeyFiles):
    """Notes what is done, and whether the settings were there at that moment."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[tuple[str, str, bool]] = []

    def before(self, operation: str, *args: object) -> None:
        self.done.append((operation, str(args[-1]), os.path.exists(self.path(settings.SETTINGS))))


def test_every_folder_is_there_before_the_settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SHARDS", 256)
    fs = Watched(place)
    store = FolderStore(place, fs=fs)
    assert [name for operation, name, ready in fs.done if operation == "mkdir" and ready] == []
    made = {name for operation, name, _ in fs.done if operation == "mkdir"}
    assert {f"{folder}/{n:02x}" for folder in ("keys", "values") for n in range(256)} < made
    fs.done.clear()
    for n in range(50):
        claim, _ = store.claim(f"k{n}", 100.0, "me")
        assert claim is not None
        store.confirm(claim, b"value")
    assert not [name for operation, name, _ in fs.done if operation == "mkdir"]
    assert os.listdir(place.parent) == ["keys"]


def make_at_once(path: str, log: str, go: multiprocessing.synchronize.Event) -> None:
    mkdir = KeyFiles.mkdir

    def noted(self: KeyFiles, name: str) -> None:
        mkdir(self, name)
        with open(log, "ab", buffering=0) as file:
            file.write(f"{os.getpid()}\n".encode())
    KeyFiles.mkdir = noted  # type: ignore[method-assign]
    go.wait()
    once.open_store(path)


def test_many_make_it_at_once(place: Path, tried: Tried) -> None:
    context = multiprocessing.get_context("fork")
    for n in range(10):
        go, log = context.Event(), place.parent / f"log{n}"
        processes = [context.Process(target=make_at_once, args=(f"{place}{n}", str(log), go)) for _ in range(10)]
        for process in processes:
            process.start()
        go.set()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert os.listdir(f"{place}{n}/tmp") == []
        makers = log.read_text().split()
        assert len(makers) == 4 + 2 * settings.SHARDS and len(set(makers)) == 1, "one of them has made it"
    assert not list(place.parent.glob(".*"))
    tried("folders of keys that ten processes made at once", 10)


@pytest.mark.parametrize("number", [1, 4, 5, 200, 516, 517, 518])
def test_a_maker_that_is_killed_is_followed_at_once(place: Path, number: int) -> None:
    """The others know that it is dead, and don't wait."""
    program = f"""
import os, signal, sys
from runforrest.once.files import KeyFiles
from runforrest.once.folder import FolderStore
class Deadly(KeyFiles):
    seen = 0
    def after(self, operation, *args):
        Deadly.seen += operation in ("symlink", "mkdir", "create")
        if Deadly.seen == {number}:
            os.kill(os.getpid(), signal.SIGKILL)
FolderStore(sys.argv[1], fs=Deadly(sys.argv[1]))
"""
    killed = subprocess.run([sys.executable, "-c", program, str(place)], cwd=ROOT)
    assert killed.returncode == -9 and not (place / settings.SETTINGS).exists()
    found: list[FolderStore] = []
    waiting = threading.Thread(target=lambda: found.append(FolderStore(place)), daemon=True)
    waiting.start()
    waiting.join(making.PATIENCE / 2)
    [store] = found
    assert store.claim("k", 100.0, "me")[0] is not None
    assert sorted(p.name for p in place.iterdir()) == ["hearts", "keys", "runforrest.json", "tmp", "values"]
    assert os.listdir(place.parent) == ["keys"]


def other_host(**more: object) -> str:
    return json.dumps({**identity.identity(), "host": "elsewhere", "boot": "another", **more})


def test_a_maker_elsewhere_is_waited_for(place: Path) -> None:
    mark_of(place).symlink_to(other_host())
    found: list[FolderStore] = []
    waiting = threading.Thread(target=lambda: found.append(FolderStore(place)))
    waiting.start()
    waiting.join(0.5)
    assert not found and not place.exists()
    mark_of(place).unlink()         # it has given up
    waiting.join()
    assert len(found) == 1 and os.listdir(place.parent) == ["keys"]


UNKNOWN = {"of another host": other_host(), "no JSON": "no JSON", "a list": "[]", "nothing": "{}", "deep": "[" * 4000,
           **{f"odd {field}": json.dumps({**identity.identity(), field: value}) for field, value in {
               "processes": 5, "pid": [["../../etc/passwd", "x"]], "boot": []}.items()},
           "odd pids": json.dumps({**identity.identity(), "processes": [[{}, {}], ["../../etc/passwd", "x"]]})}


@pytest.mark.parametrize("whose", UNKNOWN)
def test_but_not_for_ever(place: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    monkeypatch.setattr(making, "PATIENCE", 0.3)
    mark_of(place).symlink_to(UNKNOWN[whose])
    assert FolderStore(place).claim("k", 100.0, "me")[0] is not None
    assert os.listdir(place.parent) == ["keys"]


def test_a_mark_that_cannot_be_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another user, in a folder with the sticky bit."""
    class Sticky(KeyFiles):
        def before(self, operation: str, *args: object) -> None:
            if operation == "rename" and str(args[0]).endswith(making.MARK):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    monkeypatch.setattr(making, "PATIENCE", 0.3)
    monkeypatch.setattr(making, "KeyFiles", Sticky)
    mark_of(place).symlink_to(other_host())
    assert FolderStore(place).claim("k", 100.0, "me")[0] is not None
    assert os.readlink(mark_of(place)) == other_host()


def test_the_mark_of_the_next_maker_is_not_taken_away(place: Path) -> None:
    """Who was about to remove a dead maker's finds another one in its place."""
    mark = making._Mark(KeyFiles(place))
    mark_of(place).symlink_to("the next")
    assert mark.take_away("the dead one")
    assert os.readlink(mark_of(place)) == "the next" and len(os.listdir(place.parent)) == 1


def test_a_folder_in_which_nothing_can_be_made_beside_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has made it for us."""
    class Locked(KeyFiles):
        def before(self, operation: str, *args: object) -> None:
            if self.root == str(place.parent):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(making, "KeyFiles", Locked)
    place.mkdir(0o700)
    (place / making.MARK).symlink_to(other_host())
    (place / f"{making.MARK}.abc").symlink_to("of one that was killed as it removed another's")
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(FolderStore(place)))
    waiting.start()
    waiting.join(0.3)
    assert not found
    (place / making.MARK).unlink()
    waiting.join()
    assert found[0].claim("k", 100.0, "me")[0] is not None and not (place / making.MARK).exists()


def test_a_reply_to_the_mark_that_is_lost(place: Path) -> None:
    class Lost(KeyFiles):
        def after(self, operation: str, *args: object) -> None:
            if operation == "symlink":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
    mark = making._Mark(KeyFiles(place))
    mark._fs = Lost(place.parent)
    assert mark.set() and os.path.lexists(mark_of(place))


def test_who_waits_learns_why_it_cannot_be_made(place: Path) -> None:
    """A maker whose folder turns out to be somebody's own leaves the mark to nobody."""
    place.mkdir()
    (place / "thesis.tex").touch()
    for _ in range(2):
        with pytest.raises(KeyStoreError, match="is not empty, and not a folder of keys"):
            FolderStore(place)
    assert os.listdir(place.parent) == ["keys"]


def test_a_folder_that_was_removed_by_hand(place: Path) -> None:
    store = FolderStore(place)
    for folder in ("keys", "values"):
        (place / folder / store.tree.shard_name("k")).rmdir()
    claim, _ = store.claim("k", 100.0, "me")
    assert claim is not None
    store.confirm(claim, b"value")
    assert store.value("k") == b"value"


def test_a_parent_that_is_a_link(place: Path) -> None:
    (place.parent / "real").mkdir()
    (place.parent / "link").symlink_to("real")
    mark = place.parent / "real" / ".keys.making"
    mark.symlink_to(other_host())
    waiting = threading.Thread(target=lambda: FolderStore(place.parent / "link" / "keys"))
    waiting.start()
    wait_for(lambda: waiting.is_alive())
    waiting.join(0.2)
    assert waiting.is_alive()
    mark.unlink()
    waiting.join()
    assert (place.parent / "real" / "keys" / settings.SETTINGS).exists()

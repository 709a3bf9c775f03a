"""A crash, and an error, at every single file operation on a folder of keys.

After a crash the key is in one state, the one before or the one after; what is not done can be claimed by another, once
the lease is over; a value is whole or not there.  After an error, asking again leads to what was asked for, once.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runforrest.folder.transitions import LOST_RACE
from runforrest.once import making, names, settings
from runforrest.once.errors import AlreadyDone, ClaimLost, KeyStoreError
from runforrest.once.files import KeyFiles
from runforrest.once.folder import FolderStore
from runforrest.once.model import Claim, Condition
from runforrest.once.settings import HEARTS, KEYS, VALUES
from tests.folder.conftest import quick_folder
from tests.folder.test_crash_points import Crash, Nth

__all__ = ["quick_folder"]

ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT,
          errno.ENOTCONN]
LOST_REPLIES = [errno.EIO, errno.ESTALE, errno.ENOTCONN]
ALTHOUGH_DONE = [errno.ENOENT, errno.EIO, errno.ESTALE, errno.EPERM]
LONG = 1000.0
VALUE = b"value" * 100
Tried = Callable[[str, int], None]


class KeyNth(Nth, KeyFiles):
    """Something happens at the n-th operation on a folder of keys.  ``twice``: and the next one fails, too."""

    twice = False

    def before(self, operation: str, *args: object) -> None:
        super().before(operation, *args)
        if self.twice and self.seen == self.number and isinstance(self.error, OSError):
            self.twice = False
            raise OSError(errno.EIO, os.strerror(errno.EIO), "here, too")


@dataclass
class Case:
    """What is done, and how.

    prepare  on a sound store; what it returns is given to ``act``
    act      what is interrupted; it returns the claim that it has made, or None
    done     whether the key may be done afterwards, and whether it must be if ``act`` has returned
    """

    prepare: Callable[[FolderStore], Any]
    act: Callable[[FolderStore, Any], Claim | None]
    done: bool = False


def claim(store: FolderStore, _: Any = None, timeout: float | None = LONG) -> Claim | None:
    return store.claim("k", timeout, "me")[0]


def claimed(store: FolderStore) -> Claim:
    found = store.claim("k", LONG, "first")[0]
    assert found is not None
    return found


def released(store: FolderStore) -> None:
    store.release(claimed(store))


def over(store: FolderStore) -> Claim:
    found = claimed(store)
    end_leases(Path(store.url))
    return found


def done(store: FolderStore) -> Claim:
    found = claimed(store)
    store.confirm(found, VALUE)
    return found


def orphaned(store: FolderStore) -> Claim:
    """Somebody died before it came to the anchor; somebody else has the key."""
    found = claimed(store)
    state = names.parse(found.ref)
    assert state is not None
    store.tree.create(store.tree.path("k", state._replace(lineage="orphaned")), b"")
    end_leases(Path(store.url))
    return found


CASES = {
    "make": Case(lambda store: shutil.rmtree(store.url), lambda store, _: claim(store)),
    "claim": Case(lambda store: None, claim),
    "claim for good": Case(lambda store: None, lambda store, _: claim(store, timeout=0.0), done=True),
    "claim by heart": Case(lambda store: None, lambda store, _: claim(store, timeout=None)),
    "claim what was given back": Case(released, claim),
    "claim one of several": Case(released, lambda store, _: store.claim_any(["k"], LONG, "me")[0]),
    "take over": Case(over, claim),
    "take over by heart": Case(over, lambda store, _: claim(store, timeout=None)),
    "take over beside an orphan": Case(orphaned, claim),
    "take by force": Case(done, lambda store, _: store.claim("k", LONG, "me", force=True)[0], done=True),
    "confirm": Case(claimed, lambda store, mine: store.confirm(mine, None, "report"), done=True),
    "confirm with a value": Case(claimed, lambda store, mine: store.confirm(mine, VALUE, "report"), done=True),
    "release": Case(claimed, lambda store, mine: store.release(mine) and None),
    "forget": Case(done, lambda store, _: store.forget("k"), done=True),
    "look": Case(over, lambda store, _: store.look("k") and None),
    "value": Case(done, lambda store, _: store.value("k") and None, done=True),
    "count": Case(over, lambda store, _: list(store.entries("")) and None),
}


@pytest.fixture(autouse=True)
def few_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """And little patience with a maker that is this very process, after what stands for its death."""
    monkeypatch.setattr(settings, "SHARDS", 2)
    monkeypatch.setattr(making, "PATIENCE", 0.02)


def end_leases(root: Path) -> None:
    """As if much time had gone by, and whoever holds keys by its heart had died."""
    for state in (root / KEYS).glob("*/*~*"):
        os.utime(state, (1, 1))
    for heart in (root / HEARTS).iterdir():
        heart.rename(heart.with_name(f"{heart.name.rpartition('@')[0]}@dead"))


def make(root: Path, fs: KeyFiles | None = None) -> FolderStore:
    store = FolderStore(root, fs=fs)
    store.hearts._leaving.set()         # nothing in the background, nor at the end
    return store


def prepared(case: Case, root: Path, fs: KeyFiles) -> tuple[FolderStore, Any]:
    """A store whose operations ``fs`` counts from here on."""
    sound = make(root)
    given = case.prepare(sound)
    if case is CASES["make"]:
        return sound, given
    store = make(root)
    store.fs = store.tree.fs = store.hearts.place.fs = fs  # type: ignore[attr-defined]
    fs.trust = sound.fs.trust
    return store, given


def run(case: Case, root: Path, fs: KeyNth, store: FolderStore, given: Any) -> Claim | None:
    if case is CASES["make"]:
        store = make(root, fs)
    return case.act(store, given)


def asked(case: Case, root: Path, fs: KeyNth, store: FolderStore, given: Any) -> Claim | None:
    """The answer, at the latest to the third time of asking: an error can come once or twice."""
    for left in reversed(range(2 + fs.twice)):
        try:
            return run(case, root, fs, store, given)
        except (OSError, KeyStoreError) as caught:
            assert case is CASES["make"] or isinstance(caught, OSError), repr(caught)
            if not left:
                raise
    raise AssertionError("unreachable")


def operations(case: Case, root: Path, after: bool) -> int:
    fs = KeyNth(root, 0, None, after)
    store, given = prepared(case, root, fs)
    run(case, root, fs, store, given)
    shutil.rmtree(root, ignore_errors=True)
    return fs.seen


def check(case: Case, root: Path, mine: Claim | None, given: Any, finished: bool) -> None:
    """What must be true whatever has happened, seen by somebody else."""
    store = make(root)
    now = store.look("k")
    if now is not None and now.condition.success:
        assert case.done
        assert store.claim("k", LONG, "rescuer")[0] is None
        assert store.value("k") == (VALUE if now.has_value else None)
        return
    assert not (finished and case.act in (CASES["confirm"].act, CASES["confirm with a value"].act,
                                          CASES["claim for good"].act)), "it was said to be done"
    if mine is not None:
        assert now is not None and now.condition is Condition.IN_PROGRESS, "a claim that was granted holds"
        assert store.claim("k", LONG, "rescuer")[0] is None
    end_leases(root)
    rescuer = make(root)
    theirs, _ = rescuer.claim("k", LONG, "rescuer")
    assert theirs is not None, "it can be claimed again"
    for late in (mine, given):
        if isinstance(late, Claim):
            with pytest.raises((ClaimLost, AlreadyDone)):
                rescuer.confirm(late, b"late")
            assert not rescuer.release(late)
    rescuer.confirm(theirs, b"rescued")
    assert make(root).value("k") == b"rescued"
    assert [entry.key for entry in rescuer.entries("k")] == ["k"]
    assert len(list((root / KEYS).glob("*/k~*"))) == 1, "nothing is left of those that did not count"


@pytest.mark.parametrize("name", CASES)
def test_a_crash_at_every_operation(quick_folder: Path, name: str, tried: Tried) -> None:
    case, root, points = CASES[name], quick_folder / "keys", 0
    for after in (False, True):
        for number in range(1, operations(case, root, after) + 1):
            fs = KeyNth(root, number, Crash(), after)
            store, given = prepared(case, root, fs)
            mine, finished = None, False
            try:
                mine = run(case, root, fs, store, given)
                finished = True
            except Crash:
                pass
            assert fs.what
            check(case, root, mine, given, finished)
            shutil.rmtree(root)
            points += 1
    assert points
    tried("crashes at a file operation on keys", points)


@pytest.mark.parametrize("name, how", [
    (name, how) for name in CASES for how in ("not done", "although done", "although done, and not to be asked")
    if name != "make" or not how.endswith("asked")])       # it is another store each time
def test_an_error_at_every_operation(quick_folder: Path, name: str, how: str, tried: Tried) -> None:
    """It raises, or succeeds; asked again, it has succeeded, once."""
    case, root, points, late = CASES[name], quick_folder / "keys", 0, how != "not done"
    for code in {"not done": ERRORS, "although done": ALTHOUGH_DONE}.get(how, LOST_REPLIES):
        for number in range(1, operations(case, root, late) + 1):
            fs = KeyNth(root, number, OSError(code, os.strerror(code), "here"), late)
            store, given = prepared(case, root, fs)
            fs.twice = how.endswith("asked")
            mine = asked(case, root, fs, store, given)
            assert fs.what, f"{name}: there is no operation {number}"
            if name.startswith(("claim", "take", "make")):
                if mine is None and code in LOST_RACE:          # 'not now', as to who loses a race
                    mine = asked(case, root, fs, store, given)
                assert mine is not None, f"not granted after {errno.errorcode[code]} at {fs.what}"
            check(case, root, mine, given, True)
            shutil.rmtree(root)
            points += 1
    tried("errors at a file operation on keys", points)


def test_the_proof_can_fail(quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that removes its file after a lost reply, as one may be tempted to, loses the key."""
    from runforrest.once.tree import KeyTree

    def careless(self: KeyTree, key: str, state: names.State) -> bool:
        path = self.path(key, state)
        self.create(path, b"")
        try:
            self.fs.symlink(state.lineage, self.path(key, state.quoted))
        except OSError:
            self.fs.unlink(path)
            return False
        return True
    monkeypatch.setattr(KeyTree, "begin", careless)
    with pytest.raises(AssertionError):
        test_an_error_at_every_operation(quick_folder, "claim", "although done", lambda what, number: None)


def test_what_is_left_of_values(quick_folder: Path) -> None:
    """A value whose report was refused, or whose key was forgotten, is removed."""
    store = make(quick_folder / "keys")
    late = over(store)
    mine = claim(store)
    with pytest.raises(ClaimLost):
        store.confirm(late, b"late")
    assert mine is not None
    store.confirm(mine, b"in time")
    assert len(list((quick_folder / "keys" / VALUES).glob("*/*"))) == 1
    store.forget("k")
    assert list((quick_folder / "keys" / VALUES).glob("*/*")) == []

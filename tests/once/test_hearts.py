"""Hearts: who is taken for dead, and when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest import once
from runforrest.folder import identity
from runforrest.once.errors import ClaimLost
from runforrest.once.folder import FolderStore
from runforrest.once.folderhearts import FolderHearts
from runforrest.once.hearts import DEAD, KEPT_SECONDS, SWEPT, Watch
from runforrest.once.model import Condition, KeyStore
from runforrest.once.redisstore import RedisStore
from tests.helpers import wait_for
from tests.hosts.machines import ROOT
from tests.once.conftest import BEAT, LEASE, Server, opened
from tests.once.work import Counting

Tried = Callable[[str, int], None]


# -- seeing others -----------------------------------------------------------------------


def silent(watch: Watch, *looks: tuple[float, str]) -> list[bool]:
    return [bool(watch.see(now, {"o": number} if number else {}, ["o"])) for now, number in looks]


def test_a_heart_that_does_not_beat_for_a_lease() -> None:
    assert silent(Watch(10, 3), (0, "7"), (10, "7"), (20, "7"), (30, "7")) == [False, False, False, True]


def test_a_beat_begins_a_new_lease() -> None:
    looks = [(0.0, "7"), (10.0, "7"), (20.0, "7"), (29.0, "8"), (39.0, "8"), (49.0, "8"), (59.0, "8")]
    assert silent(Watch(10, 3), *looks) == [False] * 6 + [True]


def test_a_look_that_comes_late_counts_for_one_beat() -> None:
    """The observer was suspended, or the server was away: the others could not beat either."""
    assert silent(Watch(10, 3), (0, "7"), (3600, "7"), (3601, "7"), (3615, "7"), (3625, "7")) == [
        False, False, False, False, True]


def test_a_heart_that_nobody_sees_is_waited_for_as_well() -> None:
    """A listing may be old."""
    assert silent(Watch(10, 3), (0, ""), (10, ""), (20, ""), (30, "0"), (40, "0"), (50, "0"), (60, "0")) == [
        False] * 6 + [True]


def test_who_is_asked_for_later_gets_the_whole_lease() -> None:
    watch = Watch(10, 3)
    watch.see(0, {}, [])
    watch.see(10, {}, [])
    assert silent(watch, (20, "5"), (30, "5"), (40, "5"), (50, "5")) == [False, False, False, True]


# -- real processes ----------------------------------------------------------------------


class Holder:
    """A process that has claimed a key, and reports success when it is told to."""

    def __init__(self, address: str, folder: Path, timeout: str) -> None:
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.once.work", "hold", str(self.log), "k", timeout], cwd=ROOT,
            stdin=subprocess.DEVNULL, env={**os.environ, "RUNFORREST_KEYS": address})
        wait_for(lambda: self.log.exists())

    def finish(self) -> str:
        """Let it go on; what it says."""
        self.log.with_suffix(".go").touch()
        self.process.wait()
        return self.log.read_text().splitlines()[-1]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["heartbeat", "0.3"])
def holder(request: pytest.FixtureRequest, address: str, store: KeyStore, tmp_path: Path) -> object:
    made = Holder(address, tmp_path, request.param)
    yield made
    made.end()


def by_heart(store: KeyStore) -> bool:
    """Whether the key is held so, and not for 0.3 s."""
    entry = store.look("k")
    return entry is not None and entry.timeout is None


def claim(store: KeyStore) -> once.Claim:
    found = wait_for(lambda: store.claim("k", 1000.0, "other")[0], what="the key can be taken over")
    assert found is not None
    return found


def test_a_process_that_is_killed(store: KeyStore, holder: Holder) -> None:
    """By heartbeat: its death is known at once, on this host, though its lease is half a minute."""
    if by_heart(store):
        assert store.claim("k", 1000.0, "other")[0] is None
    holder.end()
    mine = claim(store)
    assert mine.token == 2
    store.confirm(mine)


def looks_counted(store: KeyStore) -> list[str]:
    """One more for each look at all hearts from now on."""
    looks: list[str] = []
    place = store.hearts.place  # type: ignore[attr-defined]
    numbers = place.numbers

    def counted() -> dict[str, str]:
        looks.append("look")
        found: dict[str, str] = numbers()
        return found
    place.numbers = counted
    return looks


def test_many_owners_are_seen_with_one_look(address: str, store: KeyStore, tried: Tried) -> None:
    """Else thousands of processes that begin at once would each look thousands of times at thousands of hearts."""
    owners = [opened(address) for _ in range(40)]
    for each in (store, *owners):
        each.hearts.beat = 1000.0  # type: ignore[attr-defined]
    for n, owner in enumerate(owners):
        assert owner.claim(f"k{n}", None, "me")[0]
    looks = looks_counted(store)
    names = [f"k{n}" for n in range(len(owners))]
    assert list(once.DistributedIterator([*names, "free"], heartbeat=True, store=store)) == ["free"]
    assert len(looks) == 1
    for owner in owners:
        owner.close()
    tried("owners of keys that were seen with one look", len(owners))


@pytest.mark.parametrize("holder", ["heartbeat"], indirect=True)
def test_a_process_that_died_after_the_last_look(address: str, store: KeyStore, other: KeyStore,
                                                 holder: Holder) -> None:
    """And had beaten since: what was seen then says nothing any more."""
    assert other.claim("another", None, "me")[0]
    store.hearts.beat = 1000.0  # type: ignore[attr-defined]
    looks = looks_counted(store)
    place = other.hearts.place  # type: ignore[attr-defined]
    [mine, theirs] = sorted(place.numbers(), key=lambda owner: f".{os.getpid()}." not in owner)
    assert not store.hearts.is_dead(mine)  # type: ignore[attr-defined]
    before = place.numbers()[theirs]
    wait_for(lambda: place.numbers()[theirs] != before)
    holder.process.kill()
    holder.process.wait()
    assert store.hearts.is_dead(theirs) and len(looks) == 2  # type: ignore[attr-defined]


def test_one_that_was_stopped_is_refused_when_it_wakes(store: KeyStore, holder: Holder, tried: Tried) -> None:
    holder.process.send_signal(signal.SIGSTOP)
    mine = claim(store)
    holder.process.send_signal(signal.SIGCONT)
    said = holder.finish()
    assert said.startswith("ClaimLost the claim of 'k' with token 1 is over, and other has it now, with token 2"), said
    store.confirm(mine, b"value")
    assert store.value("k") == b"value"
    tried("owners that were stopped, and refused when they woke", 1)


def test_one_that_was_stopped_for_less_than_its_lease(store: KeyStore, holder: Holder) -> None:
    if not by_heart(store):
        pytest.skip("a lease by timeout does not know whether its owner lives")
    holder.process.send_signal(signal.SIGSTOP)
    assert store.claim("k", 1000.0, "other")[0] is None
    holder.process.send_signal(signal.SIGCONT)
    assert holder.finish() == "done"


def test_a_heart_beats_on_when_the_store_was_away(address: str, tmp_path: Path) -> None:
    if "://" in address:
        pytest.skip("the folder is moved away")
    store, other = opened(address), opened(address)
    mine, _ = store.claim("k", None, "me")
    assert other.claim("k", None, "you")[0] is None
    os.rename(address, f"{address}.away")
    time.sleep(BEAT * LEASE * 2)
    os.rename(f"{address}.away", address)
    for _ in range(3):
        time.sleep(BEAT)
        assert other.claim("k", None, "you")[0] is None
    assert mine is not None
    store.confirm(mine)
    store.close()
    other.close()


def test_a_child_that_was_forked_has_a_heart_of_its_own(store: KeyStore) -> None:
    mine, _ = store.claim("k", None, "me")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, json.dumps([store.claim("j", None, "child")[0] is not None,
                                    store.hearts.owner()]).encode())  # type: ignore[attr-defined]
        os._exit(0)
    os.waitpid(pid, 0)
    got, owner = json.loads(os.read(read, 1000))
    os.close(read)
    os.close(write)
    assert got and owner != store.hearts.owner()  # type: ignore[attr-defined]
    assert wait_for(lambda: store.claim("j", None, "me")[0], what="the key of a child that is gone")
    assert mine is not None and store.look("k").condition is Condition.IN_PROGRESS  # type: ignore[union-attr]
    store.confirm(mine)


# -- files -------------------------------------------------------------------------------


@pytest.fixture
def folder(tasklist_dir: Path) -> FolderStore:
    made = FolderStore(tasklist_dir)
    made.hearts._leaving.set()
    return made


def hearts_of(folder: FolderStore) -> list[str]:
    return sorted(os.listdir(f"{folder.url}/hearts"))


def test_one_that_was_declared_dead_makes_a_new_heart(folder: FolderStore) -> None:
    mine, _ = folder.claim("k", None, "me")
    owner = folder.hearts.owner()
    assert folder.hearts.place.bury(owner, "0")
    folder.hearts._beat_once()
    assert folder.hearts.owner() != owner and folder.hearts.is_dead(owner)
    again, _ = folder.claim("k", None, "me")
    assert again is not None and again.token == 2
    with pytest.raises(ClaimLost):
        assert mine is not None
        folder.confirm(mine)


def test_a_heart_that_has_beaten_since_is_not_buried(folder: FolderStore) -> None:
    owner = folder.hearts.owner()
    folder.hearts._beat_once()
    assert not folder.hearts.place.bury(owner, "0") and hearts_of(folder) == [f"{owner}@1"]


def test_another_host_of_the_same_name_is_not_known_to_be_dead(folder: FolderStore) -> None:
    """Only the lease tells."""
    text = {**identity.identity(), "boot": "another", "processes": [[1, "0"]]}
    folder.hearts.place.begin("elsewhere", text)
    assert not folder.hearts.is_dead("elsewhere")
    folder.hearts.place.begin("here", {**identity.identity(), "processes": [[os.getpid(), "0"]]})
    assert folder.hearts.is_dead("here") and "here@dead" in hearts_of(folder)


def test_leaving(folder: FolderStore) -> None:
    for holding in (False, True):
        folder.hearts._leaving.clear()
        owner = folder.hearts.owner()
        if holding:
            folder.claim("k", None, "me")
        folder.close()
        assert hearts_of(folder) == ([f"{owner}@{DEAD}"] if holding else [])


def test_who_has_left_and_comes_again_has_a_heart_that_beats(store: KeyStore) -> None:
    store.claim("k", None, "me")
    store.close()
    claimed, _ = store.claim("another", None, "me")
    assert claimed is not None
    hearts = store.hearts                               # type: ignore[attr-defined]
    wait_for(lambda: hearts._number > 2)
    assert hearts.owner() in hearts.place.numbers()


def test_old_dead_hearts_are_removed(folder: FolderStore) -> None:
    """And those of which nobody knows that they are dead: they would be looked at for ever."""
    place = FolderHearts(folder.fs, 2.0)
    day = KEPT_SECONDS
    for name, age, number in (("old", 2 * day, DEAD), ("new", 10, DEAD), ("killed", 2 * day, 500),
                              ("beating", 2 * day, 80000), ("young", day / 2, 3)):
        place.begin(name, {})
        path = f"{folder.url}/hearts/{name}@{number}"
        os.rename(f"{folder.url}/hearts/{name}@0", path)
        os.utime(path, (os.stat(path).st_mtime - age,) * 2)
    place.begin("mine", {})
    assert hearts_of(folder) == ["beating@80000", "mine@0", "new@dead", "young@3"]
    for n in range(100):
        place.begin(f"more{n}", {})
    files = Counting(folder.url)
    FolderHearts(files, 2.0).begin("last", {})
    assert files.counts["open"] <= 2 * SWEPT, "however many there are"


def test_old_hearts_in_a_server_are_removed(server: Server) -> None:
    store = RedisStore(server.url("swept"))
    place, now = store.hearts.place, store.time()
    for name, age, number in (("killed", 2 * KEPT_SECONDS, 500), ("beating", 2 * KEPT_SECONDS, 80000), ("new", 10, 3)):
        store.hearts_of("hset", name, f'{number} {{"since": {now - age}}}')
    store.hearts_of("hset", "other", "3 {}")
    place.begin("mine", {})
    assert sorted(place.numbers()) == ["beating", "mine", "new", "other"]
    store.close()

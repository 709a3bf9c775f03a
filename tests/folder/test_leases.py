"""Runners among each other: who is dead, and what becomes of what they held."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runforrest.folder import frames, identity, journal, layout
from runforrest.folder.attempts import TakenOver
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import DEAD, Membership, read_heartbeat
from runforrest.folder.settings import DURABILITIES
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from runforrest.process.claimed import Claimed
from runforrest.process.config import Config

from .support import (
    Failing,
    Recording,
    call_of,
    claim,
    finish,
    ls,
    make,
    payload_of,
    places,
    runner,
    schedule,
    with_lease,
    write,
)

ELSEWHERE = {"host": "elsewhere", "boot": "another boot", "pid_namespace": "pid:[1]", "pid": 1,
             "processes": [[1, "1"]]}


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    return make(tasklist_dir)


def heartbeats(folder: TaskFolder) -> list[str]:
    return ls(folder.fs.root, layout.HB)


def elsewhere(folder: TaskFolder, name: str = "E", beat: int = 0, local: bool = False) -> None:
    """A runner on a host that nothing can be proven about; ``local``: on a disk of that host alone."""
    folder.fs.mkdir(f"doing/{name}")
    folder.fs.create(f"{layout.HB}/{name}@{beat}", [json.dumps({**ELSEWHERE, "local": local}).encode()])


def observer(folder: TaskFolder, lease: int = 3, name: str = "O") -> Membership:
    member = Membership(with_lease(folder, lease), name)
    member.folder.local = False               # as on NFS: another boot proves nothing
    member.register()
    return member


PROGRAM = """
import sys
from runforrest.folder import settings
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.transitions import TaskFolder
fs = FileOps(sys.argv[1])
folder = TaskFolder(fs, settings.open_list(fs))
member = Membership(folder, "V")
member.register()
for name in list(folder.names("todo")):
    folder.claim(name, "V")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tasklist_dir: Path, folder: TaskFolder) -> Iterator[subprocess.Popen[str]]:
    """Another runner, V, in a process of its own; it has claimed x and y."""
    schedule(folder, "x")
    schedule(folder, "y")
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tasklist_dir)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


# -- its own life --------------------------------------------------------------------------


def test_register_beat_leave(tasklist_dir: Path) -> None:
    fs = Recording(tasklist_dir)
    folder = make(tasklist_dir, fs=fs)
    member = Membership(folder, "R")
    fs.calls.clear()
    member.register(os.getpid())
    assert [c[:2] for c in fs.of("mkdir", "create")] == [("mkdir", "doing/R"), ("create", f"{layout.HB}/R@0")]
    assert member.beat() and member.beat()
    assert heartbeats(folder) == ["R@2"]
    assert identity.verdict(json.loads(fs.read(f"{layout.HB}/R@2")), True) == "alive"
    fs.calls.clear()
    member.leave()
    assert fs.calls == [("rmdir", "doing/R"), ("unlink", f"{layout.HB}/R@2")]
    journal.tidy(fs)
    assert ls(tasklist_dir, ".") == ["done", "fail", layout.SETTINGS, "todo"]


def test_names_of_runners_differ(folder: TaskFolder) -> None:
    assert Membership(folder).runner != Membership(folder).runner
    assert str(os.getpid()) in Membership(folder).runner


def test_register_after_the_last_runner_tidied_up(folder: TaskFolder) -> None:
    journal.tidy(folder.fs)
    runner(folder, "R")
    assert heartbeats(folder) == ["R@0"]


@pytest.mark.parametrize("operation", ["mkdir", "create"])
def test_register_whose_replies_were_lost(folder: TaskFolder, operation: str) -> None:
    once = iter([True])
    fs = Failing(folder.fs.root, FileNotFoundError("lost"),
                 lambda op, *args: op == operation and next(once, False), after=True)
    member = runner(TaskFolder(fs, folder.settings), "R")
    assert fs.failed == 1 and heartbeats(folder) == ["R@0"] and member.beat()
    assert json.loads(fs.read(f"{layout.HB}/R@1"))["pid"] == os.getpid()


def test_leaving_with_tasks_leaves_them_to_the_others(folder: TaskFolder) -> None:
    member = runner(folder, "R")
    claim(folder, schedule(folder, "x"), "R")
    member.leave()
    assert places(folder.fs.root) == {"x": ["doing/R"]} and heartbeats(folder) == ["R@0"]


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.ESTALE])
def test_a_beat_whose_reply_was_lost(folder: TaskFolder, error: int) -> None:
    member = runner(folder, "R")
    member.fs = Failing(folder.fs.root, OSError(error, "lost"), lambda op, *args: op == "rename", after=True)
    assert member.beat() and member.beat() and heartbeats(folder) == ["R@2"]


def test_a_beat_that_could_not_be_made_says_nothing(folder: TaskFolder) -> None:
    member = runner(folder, "R")
    member.fs = Failing(folder.fs.root, OSError(errno.EIO, "io"), lambda op, *args: op == "rename")
    with pytest.raises(OSError, match="io"):
        member.beat()
    member.fs = folder.fs
    assert member.beat() and heartbeats(folder) == ["R@1"]


def test_a_server_that_lost_its_last_seconds(folder: TaskFolder) -> None:
    member = runner(folder, "R")
    for _ in range(5):
        member.beat()
    folder.fs.rename(f"{layout.HB}/R@5", f"{layout.HB}/R@3")
    assert member.beat() and heartbeats(folder) == ["R@6"]


def test_a_fenced_runner_learns_it_from_its_beat(folder: TaskFolder) -> None:
    member, judge = runner(folder, "R"), runner(folder, "O")
    assert judge.fence("R", "0")
    assert not member.beat() and not member.beat()
    judge.drain("R")
    assert not member.beat()


def test_a_fenced_runner_learns_it_when_all_the_others_have_left(folder: TaskFolder) -> None:
    """They have finished the list, and tidied up behind them."""
    member, judge = runner(folder, "R"), runner(folder, "O")
    assert judge.fence("R", "0") and judge.drain("R")
    judge.leave()
    journal.tidy(folder.fs)
    assert not os.path.exists(folder.fs.path(layout.HB))
    assert not member.beat()


def test_a_heartbeat_that_is_hidden_is_no_fence(folder: TaskFolder) -> None:
    """A distributed file server with a part of it down: the name is not there, nor in the listing."""
    member = runner(folder, "R")
    folder.fs.rename(f"{layout.HB}/R@0", f"{layout.TMP}/hidden")
    with pytest.raises(FileNotFoundError):
        member.beat()
    folder.fs.rename(f"{layout.TMP}/hidden", f"{layout.HB}/R@0")
    assert member.beat() and heartbeats(folder) == ["R@1"]


# -- who is dead ---------------------------------------------------------------------------


def test_the_dead_of_this_host_are_drained_at_once(folder: TaskFolder, other: subprocess.Popen[str]) -> None:
    judge = runner(folder, "O")
    for _ in range(3):
        assert judge.watch() == [] and judge.alive() == ["V"]
    assert places(folder.fs.root) == {"x": ["doing/V"], "y": ["doing/V"]}
    other.kill()
    other.wait()
    assert judge.alive() == []
    assert judge.watch() == ["V"] and not judge.settled
    assert places(folder.fs.root) == {"x": ["todo"], "y": ["todo"]}
    assert heartbeats(folder) == ["O@0"] and ls(folder.fs.root, "doing") == ["O"]
    assert all(name.lost == 1 for name in folder.names("todo"))


def test_a_zombie_is_dead(folder: TaskFolder, other: subprocess.Popen[str]) -> None:
    """Killed, and its parent has not waited for it."""
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert runner(folder, "O").watch() == ["V"]


def test_a_dead_runner_whose_guards_live_is_given_time(folder: TaskFolder, other: subprocess.Popen[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    found = identity.identity()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    found["processes"] = [[dead.pid, "1"], [other.pid, identity.start_time(other.pid)]]
    folder.fs.mkdir("doing/D")
    folder.fs.create(f"{layout.HB}/D@0", [json.dumps(found).encode()])
    judge = runner(folder, "O")
    now = [100.0]
    monkeypatch.setattr("runforrest.folder.leases.time.monotonic", lambda: now[0])
    assert judge.watch() == [] and heartbeats(folder) == ["D@0", "O@0", "V@0"]
    now[0] += 5
    assert judge.watch() == []
    now[0] += 10
    assert judge.watch() == ["D"], "patience has an end"


def test_alive_runners_here_are_not_touched_while_they_beat(folder: TaskFolder) -> None:
    member, judge = runner(folder, "R"), observer(folder, 2)
    for _ in range(10):
        assert member.beat() and judge.beat()
        assert judge.watch() == []


def test_a_crowd_are_others_that_claim(folder: TaskFolder) -> None:
    """Not who only adds to the list: what is in it is then run in order."""
    mine = runner(folder, "R")
    for adds in (Membership(folder, "A", claims=False), Membership(folder, "B", claims=False)):
        adds.register()
    mine.watch()
    assert len(mine.peers()) == 2 and not mine.is_crowded()
    other = Membership(folder, "C")
    other.register()
    mine.watch()
    assert mine.is_crowded()
    other.leave()
    mine.watch()
    assert not mine.is_crowded()
    elsewhere(folder)                   # by a version that says nothing of it
    mine.watch()
    assert mine.is_crowded()


def test_one_that_hangs_here_is_lost_after_a_lease(folder: TaskFolder) -> None:
    runner(folder, "R")
    judge = observer(folder, 2)
    assert [judge.watch() for _ in range(3)] == [[], [], ["R"]]


@pytest.mark.parametrize("lease", [1, 2, 5])
def test_elsewhere_only_the_lease_tells(folder: TaskFolder, lease: int) -> None:
    elsewhere(folder)
    judge = observer(folder, lease)
    for _ in range(lease):
        assert judge.watch() == [] and judge.alive() == ["E"]
    assert judge.watch() == ["E"]


def test_every_beat_begins_a_new_lease(folder: TaskFolder) -> None:
    elsewhere(folder)
    judge = observer(folder, 2)
    for beat in range(5):
        assert judge.watch() == [] and judge.watch() == []
        folder.fs.rename(f"{layout.HB}/E@{beat}", f"{layout.HB}/E@{beat + 1}")
    assert [judge.watch() for _ in range(3)] == [[], [], ["E"]]


def test_after_a_time_without_the_folder_counting_begins_anew(folder: TaskFolder) -> None:
    elsewhere(folder)
    judge = observer(folder, 2)
    judge.watch()
    judge.watch()
    judge.forget_counts()
    assert [judge.watch() for _ in range(3)] == [[], [], ["E"]]


def test_another_boot_on_a_disk_of_this_machine_is_dead(folder: TaskFolder) -> None:
    elsewhere(folder, local=True)
    judge = runner(folder, "O")
    judge.folder.local = True
    assert judge.alive() == [] and judge.watch() == ["E"]


def test_on_a_file_server_its_clients_are_not_dead(folder: TaskFolder) -> None:
    """The same folder: to the judge on a disk of its own, to the other on NFS."""
    elsewhere(folder)
    judge = runner(folder, "O")
    judge.folder.local = True
    assert judge.alive() == ["E"] and judge.watch() == []


@pytest.mark.parametrize("local", [False, True])
def test_a_heartbeat_says_how_the_folder_is_seen(folder: TaskFolder, local: bool) -> None:
    member = Membership(folder, "R")
    member.folder.local = local
    member.register()
    assert json.loads(folder.fs.read(f"{layout.HB}/R@0"))["local"] is local


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"null", b"{}", b'{"boot": null}', b'{"processes": 3}',
                                  b"[" * 100_000])
def test_a_damaged_heartbeat_proves_nothing(folder: TaskFolder, text: bytes) -> None:
    folder.fs.mkdir("doing/E")
    folder.fs.create(f"{layout.HB}/E@0", [text])
    judge = runner(with_lease(folder, 2), "O")
    judge.folder.local = True
    assert [judge.watch() for _ in range(3)] == [[], [], ["E"]]


def test_a_heartbeat_is_read_also_if_it_was_raised_since_it_was_seen(folder: TaskFolder) -> None:
    for number in ("8", "dead"):
        folder.fs.create(f"{layout.HB}/E@{number}", [b'{"host": "elsewhere"}'])
    for number, there in (("6", False), ("7", True), ("8", True), ("9", False), ("dead", True), ("none", False),
                          ("\u00b2", False)):
        found, raised = read_heartbeat(folder.fs, "E", number)
        assert (found, raised > 0) == ({"host": "elsewhere"} if there else {}, there), number


# -- the fence -----------------------------------------------------------------------------


def test_the_fence_fails_if_the_victim_has_beaten(folder: TaskFolder) -> None:
    member, judge = runner(folder, "R"), observer(folder, 0)
    seen = judge.peers()["R"]
    assert member.beat()
    assert not judge.fence("R", seen)
    assert heartbeats(folder) == ["O@0", "R@1"] and member.beat()


def test_the_victim_beats_between_the_look_and_the_fence(folder: TaskFolder) -> None:
    member, judge = runner(folder, "R"), observer(folder, 1)

    class Sly(FileOps):
        def before(self, operation: str, *args: object) -> None:
            if operation == "rename" and str(args[1]).endswith(DEAD):
                assert member.beat()

    judge.watch()
    judge.fs = Sly(folder.fs.root)
    assert judge.watch() == [] and heartbeats(folder) == ["O@0", "R@1"]


def test_two_judges_may_drain_at_once(folder: TaskFolder) -> None:
    elsewhere(folder)
    claim(folder, schedule(folder, "x"), "E")
    one, two = observer(folder, 1, "O"), observer(folder, 1, "P")
    assert one.fence("E", "0") and two.fence("E", "0"), "fenced, by whomever"
    assert one.drain("E") and two.drain("E")
    assert [n.lost for n in folder.names("todo")] == [1]


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO])
def test_a_fence_whose_reply_was_lost(folder: TaskFolder, error: int) -> None:
    elsewhere(folder)
    judge = observer(folder, 0)
    judge.fs = Failing(folder.fs.root, OSError(error, "lost"), lambda op, *args: op == "rename", after=True)
    assert judge.fence("E", "0")


# -- taking back ---------------------------------------------------------------------------


def drained(folder: TaskFolder, name: str = "E") -> None:
    judge = observer(folder, 0)
    assert judge.fence(name, "0") and judge.drain(name)
    judge.leave()


def test_what_is_complete_is_published(folder: TaskFolder) -> None:
    elsewhere(folder)
    good, bad = (claim(folder, schedule(folder, id), "E") for id in ("good", "bad"))
    finish(folder, good, "E", "returned")
    finish(folder, bad, "E", "raised")
    drained(folder)
    assert ls(folder.fs.root, "done") == [str(good)] and ls(folder.fs.root, "fail") == [str(bad)]
    assert ls(folder.fs.root, layout.TRIES) == []


def test_what_raised_and_may_try_again_goes_back(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x", retries=1), "E")
    finish(folder, mine, "E", "raised")
    drained(folder)
    [name] = folder.names("todo")
    assert name.lost == 1, "it was taken over: nobody appends to it any more"
    task = StoredTask.open(folder.fs, f"todo/{name}", name)
    assert [a["outcome"] for a in task.attempts] == ["raised"], "but that attempt was not lost"


@pytest.mark.parametrize("torn", [b"", b"half a frame"])
def test_what_is_not_complete_goes_back_with_a_record(folder: TaskFolder, torn: bytes) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    folder.fs.append(f"doing/E/{mine}", [torn])
    drained(folder)
    [name] = folder.names("todo")
    assert (name.attempt, name.lost) == (mine.attempt, 1)
    assert ls(folder.fs.root, layout.TRIES) == [f"x.{mine.attempt}.lost"]
    [record] = StoredTask.open(folder.fs, f"todo/{name}", name).attempts
    assert record["outcome"] == "lost" and record["runner"] == "E" and record["reclaimed_by"] == "O"
    assert record["number"] == 1 and "died" in record["message"]


def test_a_result_that_a_power_cut_has_torn_is_no_result(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    finish(folder, mine, "E", payload=b"RESULT")
    path = Path(folder.fs.path(f"doing/E/{mine}"))
    path.write_bytes(path.read_bytes().replace(b"RESULT", bytes(6)))
    drained(folder)
    assert [n.lost for n in folder.names("todo")] == [1]


def test_results_of_other_attempts_do_not_count(folder: TaskFolder) -> None:
    elsewhere(folder)
    name = schedule(folder, "x", retries=5)
    first = claim(folder, name, "E")
    finish(folder, first, "E", "returned")
    folder.release(first, "E")
    claim(folder, first, "E")
    drained(folder)
    assert places(folder.fs.root) == {"x": ["todo"]}


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_result_is_forced_where_it_is_before_it_is_taken_back(tasklist_dir: Path, durability: str) -> None:
    """Its runner may have died before it did so."""
    fs = Recording(tasklist_dir)
    folder = make(tasklist_dir, durability, fs)
    elsewhere(folder)
    inside, first = (claim(folder, schedule(folder, id), "E") for id in ("x", "y"))
    beside = first.taken()
    fs.rename(f"doing/E/{first}", f"doing/E/{beside}")
    for mine in (inside, beside):
        finish(folder, mine, "E")
    fs.calls.clear()
    drained(folder)
    calls = [(call[0], call[1]) for call in fs.of("rename", "fsync")
             if str(call[1]).startswith((layout.DOING, layout.TRIES))]
    side = f"{layout.TRIES}/{beside.side()}"
    wanted = [("fsync", f"doing/E/{inside}"), ("rename", f"doing/E/{inside}"),
              ("fsync", side), ("fsync", layout.TRIES), ("rename", f"doing/E/{beside}")]
    assert calls == [call for call in wanted if call[0] == "rename" or durability in ("normal", "full")]
    assert places(tasklist_dir) == {"x": ["done"], "y": ["done"]}


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_crash_limit_ends_a_poisonous_task(folder: TaskFolder, limit: int) -> None:
    name = schedule(folder, "x", crash_limit=limit)
    for death in range(1, limit + 1):
        assert places(folder.fs.root) == {"x": ["todo"]}
        elsewhere(folder, f"E{death}")
        claim(folder, name, f"E{death}")
        drained(folder, f"E{death}")
        [name] = folder.names("todo" if death < limit else "fail")
        assert name.lost == death
    record = StoredTask.open(folder.fs, f"fail/{name}", name).result()
    assert record is not None and record["outcome"] == "lost"


@pytest.mark.parametrize("crashed", [False, True])
def test_a_poisonous_task_that_was_renamed_is_known_by_its_envelope(folder: TaskFolder, crashed: bool) -> None:
    """Its losses are recorded beside it under its first name; a new one must not begin to count again."""
    name = schedule(folder, "x", crash_limit=4)
    for death in range(3):
        elsewhere(folder, f"E{death}")
        claim(folder, name, f"E{death}")
        drained(folder, f"E{death}")
        [name] = folder.names("todo")
    os.rename(folder.fs.path(f"todo/{name}"), folder.fs.path("todo/renamed.pkl"))
    [name] = folder.names("todo")
    task = StoredTask.open(folder.fs, f"todo/{name}", name)
    assert [a["outcome"] for a in task.attempts] == ["lost"] * 3 and task.counts() == {"lost": 3}
    elsewhere(folder, "F")
    mine = claim(folder, name, "F")
    assert Claimed(folder.fs, f"doing/F/{mine}", mine, Config(folder.fs.root, "F", "host")).task.counts() == {"lost": 3}
    if crashed:
        finish(folder, mine, "F", "crashed")
    drained(folder, "F")
    assert places(folder.fs.root) == {"renamed": ["fail"]}


def test_results_after_a_take_over_go_beside_and_roll_forward_from_there(folder: TaskFolder) -> None:
    elsewhere(folder)
    claim(folder, schedule(folder, "x"), "E")
    drained(folder)
    elsewhere(folder, "F")
    [name] = folder.names("todo")
    mine = claim(folder, name, "F")
    before = folder.fs.read(f"doing/F/{mine}")
    finish(folder, mine, "F", payload=b"second")
    assert folder.fs.read(f"doing/F/{mine}") == before, "never appended to again"
    assert f"x.{mine.attempt}.pkl" in ls(folder.fs.root, layout.TRIES)
    drained(folder, "F")
    assert ls(folder.fs.root, "done") == [str(mine)]
    assert payload_of(folder.fs, f"done/{mine}", mine) == b"second"


def test_a_half_written_file_beside_is_written_anew(folder: TaskFolder) -> None:
    name = Name("x", 2, "ab", 1)
    folder.fs.create(f"{layout.TRIES}/{name.side()}", [b"half"])
    write(folder.fs, "doing/R/unused", name, payload=b"whole")
    folder.fs.create(f"done/{name}", [call_of("x")])
    assert payload_of(folder.fs, f"done/{name}", name) == b"whole"


def test_where_tries_was_tidied_away(folder: TaskFolder) -> None:
    """The last runner removes empty folders while the next one is coming: whoever misses one makes it."""
    elsewhere(folder)
    lost, done = (claim(folder, schedule(folder, id), "E") for id in "xy")
    folder.fs.rename(f"doing/E/{done}", f"doing/E/{done.taken()}")
    os.rmdir(folder.fs.path(layout.TRIES))
    finish(folder, done.taken(), "E")
    os.rename(folder.fs.path(layout.TRIES), folder.fs.path(layout.TRIES + "2"))
    judge = observer(folder, 0)
    assert judge.fence("E", "0") and judge.drain("E")
    assert [n.lost for n in folder.names("todo")] == [1, 2] and lost.id in places(folder.fs.root)
    assert len(ls(folder.fs.root, layout.TRIES)) == 2


def test_files_that_can_not_be_opened_come_back_too(folder: TaskFolder) -> None:
    """A link or a folder that a person called x.pkl, claimed by a runner that died."""
    elsewhere(folder)
    os.symlink("/etc/passwd", folder.fs.path("doing/E/link.t1-ab.pkl"))
    os.mkdir(folder.fs.path("doing/E/folder.t1-ab.pkl"))
    drained(folder)
    assert ls(folder.fs.root, "todo") == ["folder.t1-ab.lost1.pkl", "link.t1-ab.lost1.pkl"]


def test_records_of_somebody_elses_making(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    from runforrest.folder import frames
    folder.fs.append(f"doing/E/{mine}", frames.encode({"frame": "attempt", "attempt": mine.attempt}))
    drained(folder)
    assert places(folder.fs.root) == {"x": ["fail"]}


def test_an_orphan_is_drained_after_a_lease(folder: TaskFolder) -> None:
    """A folder without a heartbeat: a newcomer, or one that died there."""
    folder.fs.mkdir("doing/E")
    claim(folder, schedule(folder, "x"), "E")
    judge = runner(with_lease(folder, 2), "O")
    assert [judge.watch() for _ in range(3)] == [[], [], ["E"]]
    assert places(folder.fs.root) == {"x": ["todo"]} and ls(folder.fs.root, "doing") == ["O"]


def test_a_newcomer_is_no_orphan(folder: TaskFolder) -> None:
    folder.fs.mkdir("doing/E")
    judge = observer(folder, 2)
    judge.watch()
    judge.watch()
    folder.fs.create(f"{layout.HB}/E@0", [json.dumps(ELSEWHERE).encode()])
    assert judge.watch() == [] and judge.watch() == []


def test_a_claim_that_lands_between_listing_and_rmdir(folder: TaskFolder) -> None:
    """The zombie claims on: not gone before its folder is."""
    elsewhere(folder)
    names = [schedule(folder, f"x{n}") for n in range(3)]
    judge = observer(folder, 0)

    class Sly(FileOps):
        def before(self, operation: str, *args: object) -> None:
            if operation == "rmdir" and names:
                folder.claim(names.pop(), "E")

    judge.fs = Sly(folder.fs.root)
    assert judge.fence("E", "0") and judge.drain("E")
    assert places(folder.fs.root) == {f"x{n}": ["todo"] for n in range(3)}
    assert ls(folder.fs.root, "doing") == ["O"]


def test_a_claim_after_rmdir_does_not_land(folder: TaskFolder) -> None:
    elsewhere(folder)
    name = schedule(folder, "x")
    drained(folder)
    with pytest.raises(FileNotFoundError):
        folder.claim(name, "E")
    assert places(folder.fs.root) == {"x": ["todo"]}


def test_a_zombie_publishes_nothing(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    drained(folder)
    with pytest.raises(TakenOver):
        finish(folder, mine, "E")
    assert not folder.commit(mine, "E", "done")
    assert places(folder.fs.root) == {"x": ["todo"]}
    [late] = ls(folder.fs.root, layout.DUP)
    assert late.startswith(f"x.{mine.attempt}.E.")
    assert folder.fs.read(f"{layout.DUP}/{late}").startswith(b"result of x")


def test_a_zombie_that_had_its_frame_written_is_rolled_forward_once(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    finish(folder, mine, "E")
    drained(folder)
    assert folder.commit(mine, "E", "done"), "published: by whom does not matter"
    assert places(folder.fs.root) == {"x": ["done"]}


def test_a_foreign_file_keeps_the_folder_but_no_task(folder: TaskFolder) -> None:
    elsewhere(folder)
    claim(folder, schedule(folder, "x"), "E")
    (Path(folder.fs.root) / "doing/E/notes.txt").write_text("mine")
    judge = observer(folder, 0)
    judge.fs = fs = Recording(folder.fs.root)
    assert judge.fence("E", "0") and not judge.drain("E")
    assert places(folder.fs.root) == {"x": ["todo"]} and ls(folder.fs.root, "doing/E") == ["notes.txt"]
    assert fs.count("rmdir") <= 3, "it does not spin"
    assert heartbeats(folder) == ["E@dead", "O@0"], "and is not forgotten"
    (Path(folder.fs.root) / "doing/E/notes.txt").unlink()
    assert judge.watch() == ["E"]


def test_one_folder_in_trouble_does_not_keep_the_others_tasks(folder: TaskFolder) -> None:
    for name, id in (("E", "x"), ("F", "y")):
        elsewhere(folder, name)
        claim(folder, schedule(folder, id), name)
    judge = observer(folder, 1)
    judge.fs = Failing(folder.fs.root, PermissionError(errno.EACCES, "no"),
                       lambda op, *args: op == "listdir" and args == ("doing/E",))
    assert judge.watch() == [] and judge.watch() == ["F"]
    assert places(folder.fs.root) == {"x": ["doing/E"], "y": ["todo"]}


def test_what_a_dead_runner_left_elsewhere(folder: TaskFolder) -> None:
    elsewhere(folder)
    folder.fs.create(f"{layout.TMP}/E.slot0.log", [b"output"])
    folder.fs.create(f"{layout.TMP}/EE.slot0.log", [b"another's"])
    folder.fs.create(f"{layout.JOURNAL}/E.jsonl", [b'{"task":"x"}\n'])
    drained(folder)
    assert ls(folder.fs.root, layout.TMP) == ["EE.slot0.log"] and ls(folder.fs.root, layout.JOURNAL) == []
    assert folder.fs.read(layout.HISTORY) == b'{"task":"x"}\n'


def test_file_names_that_are_no_heartbeats(folder: TaskFolder) -> None:
    for name in ("README", "@", "@3", "x@y@z"):
        folder.fs.create(f"{layout.HB}/{name}", [b""])
    (Path(folder.fs.root) / "doing/file").write_text("x")
    judge = observer(folder, 1)
    peers: dict[str, Any] = judge.peers()
    assert "README" not in peers and "file" not in peers
    for _ in range(4):
        judge.watch()


def test_a_half_written_record_of_a_loss_is_written_anew(folder: TaskFolder) -> None:
    """Who took it back before died over it; without the record nobody could say why the task failed."""
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x", crash_limit=1), "E")
    folder.fs.create(f"{layout.TRIES}/x.{mine.attempt}.lost", [b'{"frame":"att'])
    drained(folder)
    [name] = folder.names("fail")
    record = StoredTask.open(folder.fs, f"fail/{name}", name).result()
    assert record is not None and record["reclaimed_by"] == "O"


def test_a_result_counts_more_than_the_record_of_its_loss(folder: TaskFolder) -> None:
    """Its runner was given up, but ended the task before it could be taken back."""
    elsewhere(folder)
    claim(folder, schedule(folder, "x"), "E")
    drained(folder)
    [name] = folder.names("todo")
    member = runner(folder, "R")
    mine = claim(folder, name, "R")

    class Sly(FileOps):
        """The victim ends its attempt between the look at its file and the move."""

        def before(self, operation: str, *args: object) -> None:
            if operation == "rename" and str(args[0]).startswith("doing/R/"):
                finish(folder, mine, "R", payload=b"in time")
                assert folder.commit(mine, "R", "done")

    judge = Membership(TaskFolder(Sly(folder.fs.root), folder.settings), "O")
    judge.register()
    assert judge.fence("R", "0") and judge.drain("R") and not member.beat()
    assert sorted(ls(folder.fs.root, layout.TRIES))[-2:] == [f"x.{mine.attempt}.lost", f"x.{mine.attempt}.pkl"]
    record = StoredTask.open(folder.fs, f"done/{mine}", mine).result()
    assert record is not None and record["outcome"] == "returned"
    assert StoredTask.open(folder.fs, f"done/{mine}", mine).counts() == {"lost": 1, "returned": 1}


def test_what_is_complete_is_published_where_a_person_removed_done(folder: TaskFolder) -> None:
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    finish(folder, mine, "E")
    os.rmdir(folder.fs.path("done"))
    drained(folder)
    assert places(folder.fs.root) == {"x": ["done"]}


@pytest.mark.parametrize("state", ["done", "fail"])
def test_after_a_power_cut_what_was_moved_without_its_result_comes_back(tasklist_dir: Path, state: str) -> None:
    """Durability 'calls': a name may survive in done/ whose frame, which nobody had forced, did not."""
    folder = make(tasklist_dir, "calls")
    runner(folder, "R")
    names = {id: finished(folder, id, state) for id in ("torn", "whole")}
    os.truncate(folder.fs.path(f"{state}/{names['torn']}"), sizes_without_results(folder, state)["torn"])
    member = Membership(folder, "O")
    member.folder.local = True
    elsewhere(folder, local=True)           # dead, from before this boot
    member.register()
    assert member.watch() == ["E"]
    assert [name.id for name in folder.names("todo")] == ["torn"]
    assert [str(name) for name in folder.names(state)] == [str(names["whole"])]


def finished(folder: TaskFolder, id: str, state: str) -> Name:
    mine = claim(folder, schedule(folder, id), "R")
    finish(folder, mine, "R")
    assert folder.commit(mine, "R", state)
    return mine


def sizes_without_results(folder: TaskFolder, state: str) -> dict[str, int]:
    """Where the frame of the call ends."""
    sizes = {}
    for name in folder.names(state):
        fd = folder.fs.open_read(f"{state}/{name}")
        sizes[name.id] = next(frame.end for frame in frames.backwards(fd) if frame.start == 0)
        os.close(fd)
    return sizes


def test_two_names_of_one_file_after_a_power_cut(folder: TaskFolder) -> None:
    """Btrfs: the move to done/ was forced, that the task has left doing/ was not."""
    elsewhere(folder)
    mine = claim(folder, schedule(folder, "x"), "E")
    finish(folder, mine, "E")
    os.link(folder.fs.path(f"doing/E/{mine}"), folder.fs.path(f"done/{mine}"))
    drained(folder)
    assert places(folder.fs.root) == {"x": ["done"]} and not ls(folder.fs.root, "doing")
    assert payload_of(folder.fs, f"done/{mine}", mine) == b"result of x"

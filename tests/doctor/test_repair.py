"""Mending a list: each kind of damage is planted for real; what may be meant, and who is at work, is left alone."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runforrest import defer, once
from runforrest.cli.exits import FAILED, OK, USAGE
from runforrest.doctor import mend
from runforrest.doctor.repair import FORGET, plan
from runforrest.doctor.survey import survey
from runforrest.folder import frames, identity, requests
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from tests.cli import work
from tests.cli.programs import COMMAND, SECONDS, ended, environment, inside, runforrest, tasklist
from tests.cli.programs import start as start_command
from tests.folder import support
from tests.helpers import wait_for
from tests.tasks import log_and_sleep

ID = "500-20260101T000000000000-aaaa-task"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within this process; commands that are started wait as long as they do."""
    monkeypatch.setattr(mend, "STILL_SECONDS", 0.05)


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    """A list whose runners beat fast."""
    made = support.make(tasklist_dir)
    (tasklist_dir / "runforrest.json").write_text(
        '{"format": 1, "beat": 0.05, "lease": 3, "durability": "none", "created": ""}')
    return TaskFolder(made.fs, made.settings)


def done(folder: TaskFolder, id: str = ID, state: str = "done", outcome: str = "returned") -> Path:
    """A task that has been run; by a runner that has left."""
    member = support.runner(folder, "R")
    mine = support.claim(folder, support.schedule(folder, id), "R")
    support.finish(folder, mine, "R", outcome)
    assert folder.commit(mine, "R", state)
    member.leave()
    return Path(folder.fs.root, state, str(mine))


def findings(folder: TaskFolder, *more: str) -> list[dict[str, Any]]:
    """What is found, and what of it is mended."""
    said = inside("doctor", folder.fs.root, "--repair", "--json", *more)
    found: list[dict[str, Any]] = json.loads(said.stdout)["findings"]
    left = [each for each in found if each["action"] and not each["mended"]]
    assert said.returncode == (FAILED if left else OK), said.stderr
    return [{key: each[key] for key in ("where", "action", "mended")} for each in found]


def mended(folder: TaskFolder, where: str, action: str, *more: str) -> None:
    """Exactly this is found; looking changes nothing; it is mended; and afterwards nothing is left to mend."""
    before = files(folder)
    assert findings(folder, *more) == [{"where": where, "action": action, "mended": None}]
    assert files(folder) == before
    assert findings(folder, "--yes", *more) == [{"where": where, "action": action, "mended": True}]
    assert [each for each in findings(folder) if each["action"]] == []


def files(folder: TaskFolder) -> Counter[bytes]:
    """The contents of all files that are tasks or may be: nothing of it may vanish."""
    return Counter(path.read_bytes() for path in Path(folder.fs.root).rglob("*") if path.is_file()
                   and "hb" not in path.parts and path.parent.name in ("todo", "done", "fail", "tries", "dup", "tmp"))


def only_told(folder: TaskFolder, where: str) -> None:
    before = files(folder)
    for _ in range(2):
        assert findings(folder, "--yes") == [{"where": where, "action": "", "mended": None}]
    assert files(folder) == before


def cut(path: Path, length: int) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:length])
    return data


def set_aside(folder: TaskFolder) -> list[str]:
    return [entry.rpartition(".")[0] for entry in support.ls(folder.fs.root, ".runforrest/dup")]


# -- nothing to do -----------------------------------------------------------------------


def test_a_sound_list(folder: TaskFolder) -> None:
    done(folder)
    done(folder, ID + "2", "fail", "raised")
    support.schedule(folder, ID + "3")
    Path(folder.fs.root, "todo", "by-hand.pkl").write_bytes(pickle.dumps(("bare", "pickle")))
    before = support.tree(folder.fs.root)
    assert findings(folder, "--yes") == [] and support.tree(folder.fs.root) == before
    text = inside("doctor", folder.fs.root, "--repair")
    assert text.stdout == f"{folder.fs.root}: 0 to mend, 0 only to be told\n" and text.returncode == OK


def test_no_list(tmp_path: Path) -> None:
    said = inside("doctor", tmp_path, "--repair")
    assert said.returncode == USAGE and "is not a task list" in said.stderr


# -- half a copy -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 15, 60])
def test_half_a_task(folder: TaskFolder, keep: int) -> None:
    """No other copy: it is shown as what it is, a task that can't be run."""
    path = Path(folder.fs.root, "todo", str(support.schedule(folder, ID)))
    cut(path, keep)
    mended(folder, f"todo/{path.name}", "fail")
    (name,) = folder.names("fail")
    assert name.tries == 1
    task = StoredTask.open(folder.fs, f"fail/{name}", name)
    assert [a["outcome"] for a in task.attempts] == ["unloadable"] and "damaged" in task.attempts[0]["message"]
    assert support.places(folder.fs.root) == {ID: ["fail"]}


def test_half_a_bare_pickle(folder: TaskFolder) -> None:
    Path(folder.fs.root, "todo", "by-hand.pkl").write_bytes(pickle.dumps(list(range(1000)))[:-10])
    mended(folder, "todo/by-hand.pkl", "fail")


def test_a_hole_in_the_call(folder: TaskFolder) -> None:
    path = Path(folder.fs.root, "todo", str(support.schedule(folder, ID)))
    with path.open("r+b") as file:
        file.write(b"\0\0\0")
    mended(folder, f"todo/{path.name}", "fail")


@pytest.mark.parametrize("state", ["todo", "fail"])
def test_half_a_copy_beside_the_whole(folder: TaskFolder, state: str) -> None:
    path = done(folder)
    half = Path(folder.fs.root, state, path.name)
    half.write_bytes(path.read_bytes()[:20])
    whole = path.read_bytes()
    mended(folder, f"{state}/{path.name}", "aside")
    assert set_aside(folder) == [f"{state}.{path.name}"] and path.read_bytes() == whole


def test_half_a_result_beside_the_whole(folder: TaskFolder) -> None:
    """`cp done/x fail/`, interrupted in the result: the call is there."""
    path = done(folder)
    half = Path(folder.fs.root, "done", path.name)
    data = path.read_bytes()
    path.rename(Path(folder.fs.root, "fail", path.name))
    half.write_bytes(data[:-1])
    mended(folder, f"done/{path.name}", "aside")


def test_a_copy_that_is_still_being_made(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(folder.fs.root, "todo", str(support.schedule(folder, ID)))
    whole = cut(path, 20)
    look = mend.look_at

    def grow(*arguments: Any) -> Any:
        path.write_bytes(whole)
        return look(*arguments)
    monkeypatch.setattr(mend, "look_at", grow)
    assert findings(folder, "--yes") == [{"where": f"todo/{path.name}", "action": "fail", "mended": False}]
    assert findings(folder) == [] and path.read_bytes() == whole


def test_done_without_its_result(folder: TaskFolder) -> None:
    """As after a power cut without fsync."""
    path = done(folder)
    cut(path, end_of_envelope(path))
    mended(folder, f"done/{path.name}", "requeue")
    assert [str(name) for name in folder.names("todo")] == [path.name]


def test_done_with_a_damaged_result(folder: TaskFolder) -> None:
    path = done(folder)
    with path.open("r+b") as file:
        file.seek(end_of_envelope(path))
        file.write(b"\0")
    mended(folder, f"done/{path.name}", "requeue")


def end_of_envelope(path: Path) -> int:
    """Where the envelope ends."""
    with path.open("rb") as file:
        return list(frames.backwards(file.fileno()))[-1].end


def test_a_result_in_tries_is_a_result(folder: TaskFolder) -> None:
    support.runner(folder, "R")
    name = support.claim(folder, support.schedule(folder, ID), "R").taken()
    os.rename(folder.fs.path(f"doing/R/{name.id}.{name.attempt}.pkl"), folder.fs.path(f"todo/{name}"))
    mine = support.claim(folder, name, "R")
    support.finish(folder, mine, "R")
    folder.commit(mine, "R", "done")
    Membership(folder, "R").leave()
    assert os.listdir(folder.fs.path(".runforrest/tries")) != [] and findings(folder, "--yes") == []


# -- a task in two states ----------------------------------------------------------------


@pytest.mark.parametrize("state", ["done", "fail"])
def test_a_copy_that_is_to_run_again_is_left(folder: TaskFolder, state: str) -> None:
    path = done(folder, state=state, outcome="returned" if state == "done" else "raised")
    shutil.copy(path, Path(folder.fs.root, "todo", path.name))
    only_told(folder, f"todo/{path.name}")


def test_a_pristine_copy_is_left(folder: TaskFolder) -> None:
    """Whoever keeps the files that were scheduled, and puts one back, means it."""
    name = support.schedule(folder, ID)
    kept = Path(folder.fs.root, "todo", str(name)).read_bytes()
    mine = support.claim(folder, name, support.runner(folder, "R").runner)
    support.finish(folder, mine, "R")
    folder.commit(mine, "R", "done")
    Membership(folder, "R").leave()
    Path(folder.fs.root, "todo", str(name)).write_bytes(kept)
    only_told(folder, f"todo/{name}")


def test_two_tries_that_have_ended_are_nothing_to_talk_of(folder: TaskFolder) -> None:
    path = done(folder, state="fail", outcome="raised")
    shutil.copy(path, Path(folder.fs.root, "todo", path.name))
    support.runner(folder, "R")
    (name,) = folder.names("todo")
    mine = support.claim(folder, name, "R")
    support.finish(folder, mine, "R")
    folder.commit(mine, "R", "done")
    Membership(folder, "R").leave()
    assert support.places(folder.fs.root) == {ID: ["done", "fail"]} and findings(folder) == []


def test_an_older_state_of_the_same_attempt(folder: TaskFolder) -> None:
    """A backup that was taken while it ran, copied back: no `cp` of the finished file can be without its end."""
    path = done(folder)
    older = Path(folder.fs.root, "todo", path.name)
    older.write_bytes(path.read_bytes()[:end_of_envelope(path)])
    mended(folder, f"todo/{path.name}", "aside")
    assert set_aside(folder) == [f"todo.{path.name}"] and path.exists()


@pytest.mark.parametrize(("outcome", "wrong"), [("returned", "fail"), ("raised", "done")])
def test_one_attempt_in_done_and_in_fail(folder: TaskFolder, outcome: str, wrong: str) -> None:
    path = done(folder, state="done", outcome=outcome)
    shutil.copy(path, Path(folder.fs.root, "fail", path.name))
    mended(folder, f"{wrong}/{path.name}", "aside")


def test_two_names_of_one_file(folder: TaskFolder) -> None:
    """A rename that a crash has cut in two, on a filesystem without a journal."""
    path = done(folder)
    os.link(path, Path(folder.fs.root, "todo", path.name))
    mended(folder, f"todo/{path.name}", "aside")
    assert path.exists()


# -- runners -----------------------------------------------------------------------------


def heartbeat(folder: TaskFolder, runner: str, **other: object) -> None:
    """A runner that holds a task, and says of itself what is given here."""
    support.runner(folder, runner)
    support.claim(folder, support.schedule(folder, ID), runner)
    found = {**identity.identity(), **other}
    Path(folder.fs.path(f".runforrest/hb/{runner}@0")).write_text(json.dumps(found))


def test_a_dead_runner(folder: TaskFolder) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    heartbeat(folder, "dead.1.aaaa", processes=[[gone.pid, "1"]])
    mended(folder, "doing/dead.1.aaaa", "take_back")
    assert support.places(folder.fs.root) == {ID: ["todo"]} and folder.names("todo")[0].lost == 1


def test_a_heartbeat_without_a_folder(folder: TaskFolder) -> None:
    heartbeat(folder, "dead.1.aaaa")
    shutil.rmtree(folder.fs.path("doing/dead.1.aaaa"))
    os.rename(folder.fs.path(".runforrest/hb/dead.1.aaaa@0"), folder.fs.path(".runforrest/hb/dead.1.aaaa@dead"))
    mended(folder, "doing/dead.1.aaaa", "take_back")
    assert not os.path.exists(folder.fs.path(".runforrest/hb/dead.1.aaaa@dead"))


def test_a_folder_without_a_heartbeat(folder: TaskFolder) -> None:
    heartbeat(folder, "orphan")
    os.unlink(folder.fs.path(".runforrest/hb/orphan@0"))
    mended(folder, "doing/orphan", "watch")
    assert support.places(folder.fs.root) == {ID: ["todo"]}


def test_an_empty_folder_without_a_heartbeat(folder: TaskFolder) -> None:
    os.mkdir(folder.fs.path("doing/empty"))
    mended(folder, "doing/empty", "watch")
    assert not os.path.exists(folder.fs.path("doing/empty"))


def test_a_runner_elsewhere_that_is_silent(folder: TaskFolder) -> None:
    heartbeat(folder, "far.1.aaaa", pid_namespace="another", host="far")
    mended(folder, "doing/far.1.aaaa", "watch")
    assert support.places(folder.fs.root) == {ID: ["todo"]}


def test_a_runner_elsewhere_that_is_at_work(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It beats while it is watched: here, each time that the doctor does."""
    heartbeat(folder, "far.1.aaaa", pid_namespace="another", host="far")
    far, beat = Membership(folder, "far.1.aaaa"), Membership.beat

    def both(member: Membership) -> bool:
        return beat(far) and beat(member)
    monkeypatch.setattr(Membership, "beat", both)
    for more in ((), ("--force-dead", "far.1.aaaa")):
        if more:                               # it beats after the plan was made
            monkeypatch.setattr(mend.Mender, "__enter__", lambda mender: (beat(far), enter(mender))[1])
        action = "force" if more else "watch"
        assert findings(folder, "--yes", *more) == [{"where": "doing/far.1.aaaa", "action": action, "mended": False}]
        assert support.places(folder.fs.root) == {ID: ["doing/far.1.aaaa"]}


enter = mend.Mender.__enter__


def test_a_runner_elsewhere_that_a_person_declares_dead(folder: TaskFolder) -> None:
    (Path(folder.fs.root) / "runforrest.json").write_text(
        '{"format": 1, "beat": 1000, "lease": 1000, "durability": "none"}')
    heartbeat(folder, "far.1.aaaa", pid_namespace="another", host="far")
    assert findings(folder, "--yes", "--force-dead", "far.1.aaaa") == [
        {"where": "doing/far.1.aaaa", "action": "force", "mended": True}]
    assert support.places(folder.fs.root) == {ID: ["todo"]}


def test_forcing_who_is_alive_or_unknown_is_refused(folder: TaskFolder) -> None:
    heartbeat(folder, "here.1.aaaa")
    for runner, text in (("here.1.aaaa", "is alive on this host"), ("nobody", "there is no runner nobody")):
        said = inside("doctor", folder.fs.root, "--repair", "--yes", "--force-dead", runner)
        assert said.returncode == USAGE and text in said.stderr
    assert findings(folder, "--yes") == [] and support.places(folder.fs.root) == {ID: ["doing/here.1.aaaa"]}


def test_what_could_be_meant_for_runners_waits_for_them(folder: TaskFolder) -> None:
    path = done(folder)
    cut(path, end_of_envelope(path))
    with_runner = support.runner(folder, "alive.1.aaaa")
    only_told(folder, f"done/{path.name}")
    with_runner.leave()
    mended(folder, f"done/{path.name}", "requeue")


# -- the list itself, leftovers ----------------------------------------------------------


def test_missing_folders_and_settings(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    shutil.rmtree(root / "done")
    (root / "runforrest.json").unlink()
    wanted = [{"where": where, "action": action, "mended": True}
              for where, action in (("done/", "make_folder"), ("runforrest.json", "complete"))]
    assert findings(folder, "--yes") == wanted and findings(folder) == []
    assert json.loads((root / "runforrest.json").read_text())["lease"] == 8


def test_damaged_settings(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    (root / "runforrest.json").write_text('{"format": 1, "be')
    mended(folder, "runforrest.json", "new_settings")
    assert set_aside(folder) == ["runforrest.json"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_settings_that_can_not_be_read_now_are_not_damaged(folder: TaskFolder, code: int) -> None:
    """They would be replaced by the defaults, without the list's key, its group and its lease."""
    error = OSError(code, os.strerror(code), folder.fs.path("runforrest.json"))
    fs = support.Failing(folder.fs.root, error, lambda operation, *args: args == ("runforrest.json",))
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        survey(fs)
    assert caught.value is error and fs.failed == 1


def test_a_folder_of_keys_is_left_alone(tmp_path: Path) -> None:
    once.open_store(tmp_path / "keys").close()
    before = sorted(os.listdir(tmp_path / "keys"))
    answer = runforrest("doctor", "--repair", "--yes", tmp_path / "keys")
    assert answer.returncode == 2 and "holds keys, not tasks" in answer.stderr
    assert sorted(os.listdir(tmp_path / "keys")) == before


def test_a_signed_list(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays one."""
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    monkeypatch.setenv("RUNFORREST_KEY_FILE", str(key))
    made = tasklist(tasklist_dir, defer(abs, -1))
    made.flush()
    folder = TaskFolder(FileOps(tasklist_dir), support.settings.Settings())
    (path,) = (tasklist_dir / "todo").iterdir()
    cut(path, 20)
    mended(folder, f"todo/{path.name}", "fail")
    name_of_key = json.loads((tasklist_dir / "runforrest.json").read_text())["key"]
    (tasklist_dir / "runforrest.json").write_text("{")
    mended(folder, "runforrest.json", "new_settings")
    assert json.loads((tasklist_dir / "runforrest.json").read_text())["key"] == name_of_key != ""


def test_leftovers_in_tmp(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    name = support.schedule(folder, ID)
    whole = root / ".runforrest" / "tmp" / f"{ID}.abcd"
    (root / "todo" / str(name)).rename(whole)
    half, new_half = whole.with_name(f"{ID}2.efgh"), whole.with_name(f"{ID}3.efgh")
    half.write_bytes(whole.read_bytes()[:10])
    new_half.write_bytes(whole.read_bytes()[:10])
    output = whole.with_name("gone.1.aaaa.slot0.log")
    output.write_text("said")
    for old in (whole, half, output):
        os.utime(old, (time.time() - 3 * 86400,) * 2)
    found = findings(folder, "--yes")
    assert {(each["where"].rpartition("/")[2], each["action"], each["mended"]) for each in found} == {
        (whole.name, "", None), (half.name, "remove", True), (output.name, "remove", True)}
    assert sorted(support.ls(root, ".runforrest/tmp")) == sorted([whole.name, new_half.name])


def asked(folder: TaskFolder, what: str, about: str = "", age: float = 3600.0) -> str:
    """A request of long ago; returns its file."""
    requests.ask(folder.fs, what, about)
    file = requests.path(what, about)
    os.utime(folder.fs.path(file), (time.time() - age,) * 2)
    return file


@pytest.mark.parametrize("what", [requests.PAUSE, requests.STOP, requests.STOP_NOW])
def test_a_request_to_a_runner_that_is_gone(folder: TaskFolder, what: str) -> None:
    asked(folder, what, "gone.1.aaaa", age=10.0)
    assert findings(folder, "--yes") == []
    mended(folder, asked(folder, what, "gone.2.bbbb"), "forget")
    assert [about for _, about in requests.pending(folder.fs)] == ["gone.1.aaaa"]


@pytest.mark.parametrize("state", ["done", "fail", ""])
def test_a_cancellation_of_a_task_that_has_ended_or_is_nowhere(folder: TaskFolder, state: str) -> None:
    if state:
        done(folder, state=state, outcome="returned" if state == "done" else "raised")
    mended(folder, asked(folder, requests.CANCEL, ID), "forget")
    assert requests.pending(folder.fs) == []


def test_requests_that_have_an_effect_stay(folder: TaskFolder) -> None:
    """Whoever is to do it is there, or may come."""
    member = support.runner(folder, "R")
    support.claim(folder, support.schedule(folder, ID), "R")
    support.schedule(folder, ID + "2")
    shutil.copy(done(folder, ID + "3"), folder.fs.path("todo"))
    for what, about in [(requests.PAUSE, ""), (requests.PAUSE, "R"), (requests.STOP, "R"), (requests.STOP_NOW, "R"),
                        *((requests.CANCEL, ID + end) for end in ("", "2", "3"))]:
        asked(folder, what, about)
    nowhere = asked(folder, requests.CANCEL, "nowhere")
    Path(folder.fs.path(".runforrest/requests/notes@")).touch()
    before = requests.pending(folder.fs)
    assert [each for each in findings(folder, "--yes") if "requests" in each["where"]] == [
        {"where": nowhere, "action": "", "mended": None}]
    assert requests.pending(folder.fs) == before and member.beat()


def test_a_task_that_is_put_back_is_still_to_be_cancelled(folder: TaskFolder) -> None:
    """Between the look and the mending: what was found holds no more."""
    path = done(folder, state="fail", outcome="raised")
    file = asked(folder, requests.CANCEL, ID)
    (found,) = plan(survey(folder.fs))
    assert (found.where, found.action) == (file, FORGET)
    path.rename(Path(folder.fs.root, "todo", path.name))
    with mend.Mender(folder.fs, folder.settings, time.monotonic()) as mender:
        assert "has changed meanwhile" in mender.mend(found)
    assert requests.pending(folder.fs) == [(requests.CANCEL, ID)]


def test_what_is_only_told(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    name = support.schedule(folder, ID)
    (root / "todo" / "notes.txt").touch()
    (root / "todo" / "bundle").mkdir()
    (root / "done" / "linked.pkl").symlink_to(root / "todo" / str(name))
    (root / "fail" / "dir.pkl").mkdir()
    os.mkfifo(root / "todo" / "pipe.pkl")
    (root / ".runforrest" / "tries" / "other.t1-aaaa.pkl").touch()
    (root / "fail").chmod(0o770)
    (root / ".runforrest-doctor.abc").mkdir()
    before = support.tree(root)
    found = findings(folder, "--yes")
    assert {each["where"] for each in found} == {
        "todo/notes.txt", "todo/bundle", "todo/pipe.pkl", "done/linked.pkl", "fail/dir.pkl",
        ".runforrest/tries/other.t1-aaaa.pkl", "fail", ".runforrest-doctor.abc"}
    assert "a pipe" in inside("doctor", root, "--repair").stdout
    assert not any(each["action"] for each in found) and support.tree(root) == before


# -- asking ------------------------------------------------------------------------------


def test_it_tells_first_and_asks(folder: TaskFolder) -> None:
    path = Path(folder.fs.root, "todo", str(support.schedule(folder, ID)))
    cut(path, 10)
    said = runforrest("doctor", folder.fs.root, "--repair")
    assert said.returncode == FAILED and "say --yes" in said.stderr
    assert f"todo/{path.name}: it is cut off" in said.stdout and "would move it to fail/" in said.stdout
    assert path.exists()
    assert on_a_terminal(folder, b"n\n") == FAILED and path.exists()
    assert on_a_terminal(folder, b"y\n") == OK and not path.exists()


def on_a_terminal(folder: TaskFolder, answer: bytes) -> int:
    main, side = os.openpty()
    try:
        program = subprocess.Popen([*COMMAND, "doctor", folder.fs.root, "--repair"], env=environment(), stdin=side,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with ended(program):
            os.write(main, answer)
            return program.wait(SECONDS)
    finally:
        os.close(main)
        os.close(side)


# -- interrupted -------------------------------------------------------------------------


OPERATIONS = {"left": 0}               # of the process that is to die


def count_down(operation: str, arguments: tuple[object, ...]) -> None:
    OPERATIONS["left"] -= 1
    if OPERATIONS["left"] == 0:
        os._exit(9)


def damaged(root: Path, gone: int) -> TaskFolder:
    """A list with one damage of each kind that takes more than one operation."""
    folder = support.make(root)
    heartbeat(folder, "dead.1.aaaa", processes=[[gone, "1"]])
    member = support.runner(folder, "R")
    finished = [support.claim(folder, support.schedule(folder, f"{ID}{number}"), "R") for number in range(3)]
    for mine in finished:
        support.finish(folder, mine, "R")
        folder.commit(mine, "R", "done")
    member.leave()
    cut(root / "todo" / str(support.schedule(folder, ID + "half")), 30)
    first, second, third = (root / "done" / str(mine) for mine in finished)
    cut(first, end_of_envelope(first))
    (root / "todo" / second.name).write_bytes(second.read_bytes()[:20])
    (root / "todo" / third.name).write_bytes(third.read_bytes()[:end_of_envelope(third)])
    return folder


@pytest.mark.slow
def test_killed_at_every_operation(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch,
                                   tried: Callable[[str, int], None]) -> None:
    """Whoever mends may be killed anywhere: the next one finds everything, and brings it to one place."""
    monkeypatch.setenv("RUNFORREST_FSIO_HOOK", "tests.doctor.test_repair:count_down")
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    for point in range(1, 1000):
        folder = damaged(tasklist_dir, gone.pid)
        before = files(folder)
        died = _mend_and_die(folder, point)
        for _ in range(3):
            if not any(each["action"] for each in findings(folder, "--yes")):
                break
        assert not any(each["action"] for each in findings(folder)), point
        after = files(folder)
        assert all(any(now.startswith(was) for now in after) for was in before), point
        assert [entry.partition(".")[0] for entry in set_aside(folder)] == ["todo", "todo"], point
        assert support.places(tasklist_dir) == {
            ID: ["todo"], ID + "0": ["todo"], ID + "1": ["done"], ID + "2": ["done"], ID + "half": ["fail"]}, point
        shutil.rmtree(tasklist_dir)
        if not died:
            tried("operations of a repair at which it was killed", point - 1)
            assert point > 50
            return


def _mend_and_die(folder: TaskFolder, point: int) -> bool:
    """Whether the process that mended was killed, at its so many-th operation."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            OPERATIONS["left"] = point
            code = inside("doctor", folder.fs.root, "--repair", "--yes").returncode
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (OK, 9)
    return code == 9


# -- runners at work ---------------------------------------------------------------------


def test_a_real_runner_is_left_alone(tasklist_dir: Path, tmp_path: Path) -> None:
    tasklist(tasklist_dir, defer(work.until, str(tmp_path / "started"), str(tmp_path / "go")))
    with start_command("run", tasklist_dir, "-n", 1, stderr=tmp_path / "said") as program:
        wait_for((tmp_path / "started").exists, SECONDS)
        (runner,) = os.listdir(tasklist_dir / "doing")
        assert runforrest("doctor", tasklist_dir, "--repair", "--yes").stdout == (
            f"{tasklist_dir}: 0 to mend, 0 only to be told\n")
        assert runforrest("doctor", tasklist_dir, "--repair", "--yes", "--force-dead", runner).returncode == USAGE
        (tmp_path / "go").touch()
        assert program.wait(SECONDS) == OK


def test_a_killed_runner_is_cleared_away(tasklist_dir: Path, tmp_path: Path) -> None:
    tasklist(tasklist_dir, defer(work.until, str(tmp_path / "started"), str(tmp_path / "go")))
    with start_command("run", tasklist_dir, "-n", 1, stderr=tmp_path / "said") as program:
        wait_for((tmp_path / "started").exists, SECONDS)
        program.send_signal(signal.SIGKILL)
        program.wait(SECONDS)
    said = wait_for(lambda: _mended(tasklist_dir), SECONDS)
    assert "mended: doing/" in said
    assert support.places(tasklist_dir) == {id: ["todo"] for id in support.places(tasklist_dir)}
    assert len(list((tasklist_dir / "todo").glob("*.lost1.pkl"))) == 1


def _mended(tasklist_dir: Path) -> str:
    """Its guards may be ending still: then it is not proven dead, and not touched."""
    said = runforrest("doctor", tasklist_dir, "--repair", "--yes")
    return said.stdout if said.returncode == OK and "mended" in said.stdout else ""


@pytest.mark.slow
def test_mending_again_and_again_while_two_runners_are_at_work(tasklist_dir: Path, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               tried: Callable[[str, int], None]) -> None:
    """Nothing is lost, nothing is done twice, whatever is planted beside it is mended."""
    monkeypatch.setattr(mend, "STILL_SECONDS", 0.0)     # less patience than it has: more that could go wrong
    count, log = 500, tmp_path / "log"
    tasklist(tasklist_dir, *(defer(log_and_sleep, str(log), number, 0.01) for number in range(count)))
    planted = rounds = 0
    with start_command("run", tasklist_dir, "-n", 1, stderr=tmp_path / "one") as one, \
            start_command("run", tasklist_dir, "-n", 1, stderr=tmp_path / "two") as two:
        while one.poll() is None or two.poll() is None:
            planted += plant(tasklist_dir, planted)
            said = inside("doctor", tasklist_dir, "--repair", "--yes", "--json")
            assert said.returncode in (OK, FAILED), said.stderr
            rounds += 1
        assert (one.returncode, two.returncode) == (OK, OK), [(tmp_path / n).read_text() for n in ("one", "two")]
    inside("doctor", tasklist_dir, "--repair", "--yes")
    assert Counter(line.split()[0] for line in log.read_text().splitlines()) == Counter(map(str, range(count)))
    ids = [name.id for name in TaskFolder(FileOps(tasklist_dir), support.settings.Settings()).names("done")]
    assert len(ids) == len(set(ids)) == count
    assert list((tasklist_dir / "todo").iterdir()) == [] == list((tasklist_dir / "fail").iterdir())
    assert len(list((tasklist_dir / ".runforrest" / "dup").iterdir())) == planted
    tried("repairs while two runners were at work", rounds)
    tried("half copies planted and mended beside them", planted)


def plant(tasklist_dir: Path, number: int) -> int:
    """Half a copy of a finished task in fail/: 1 if there was one."""
    finished: Iterator[str] = (entry for entry in sorted(os.listdir(tasklist_dir / "done")) if entry.endswith(".pkl"))
    path = next((tasklist_dir / "done" / entry for index, entry in enumerate(finished) if index == number), None)
    if path is None or Name.parse(path.name) is None:
        return 0
    (tasklist_dir / "fail" / path.name).write_bytes(path.read_bytes()[:50])
    return 1


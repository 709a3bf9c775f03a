"""Files and folders that others own, or may write to, are not unpickled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import runforrest as rf
from runforrest import defer, errors
from runforrest.folder.fsio import FileOps
from runforrest.results import load_task
from tests.cli.programs import runforrest

from .planting import (
    MALLORY,
    NOBODY,
    Canary,
    by,
    file_of,
    make,
    name_of,
    needs_root,
    only,
    opened,
    record_of,
    result,
    rewrite,
    run,
    tree,
)

pytestmark = needs_root


def given_away(path: Path, content: bytes) -> None:
    file_of(NOBODY, path, content)


def open_to(mode: int) -> Callable[[Path, bytes], None]:
    def plant(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        path.chmod(mode)
    return plant


@pytest.mark.parametrize("isolation", ["process", "reuse"])
@pytest.mark.parametrize(("plant", "who"), [
    (given_away, f"its owner (user {NOBODY})"), (open_to(0o620), "its group"), (open_to(0o602), "everybody")])
def test_a_task_of_somebody_else(place: Path, canary: Canary, isolation: str, plant: Callable[[Path, bytes], None],
                                 who: str) -> None:
    make(place / "tasks", defer(abs, -1), durability="full")
    planted = place / "tasks" / "todo" / "0.pkl"
    plant(planted, canary.pickle)
    tasks = run(place / "tasks", isolation)
    assert sorted(str(task.errorvalue.__class__.__name__) for task in tasks) == ["NoneType", "Untrusted"]
    assert not canary.sang
    refused = only(place / "tasks", "fail")
    assert refused.read_bytes() == canary.pickle        # nor written to
    record = record_of(refused)
    assert record["outcome"] == "refused" and record["error"] == "Untrusted"
    assert f"can be written by {who}, and" in record["message"] and "--trust" in record["message"]
    assert ("chown 0" if plant is given_away else "chmod go-w") in record["message"]


def test_the_canary_can_sing(place: Path, canary: Canary) -> None:
    """With ``trust=True`` the same is run: so the other tests would notice."""
    make(place / "tasks")
    given_away(place / "tasks" / "todo" / "0.pkl", canary.pickle)
    run(place / "tasks", trust=True)
    assert canary.sang


def test_it_runs_when_the_cause_is_mended(place: Path, canary: Canary) -> None:
    make(place / "tasks")
    given_away(place / "tasks" / "todo" / "0.pkl", canary.pickle)
    run(place / "tasks")
    refused = only(place / "tasks", "fail")
    os.chown(refused, 0, 0)
    refused.rename(place / "tasks" / "todo" / refused.name)
    assert not canary.sang
    run(place / "tasks")
    assert canary.sang


def test_its_environment_is_not_used_either(place: Path, canary: Canary) -> None:
    """The envelope of a refused task could name folders to import from, and variables."""
    tasks = make(place / "tasks", defer(abs, -1))
    own = only(place / "tasks", "todo")
    (place / "modules").mkdir()
    (place / "modules" / "zlib.py").write_text(f"import os; os.mkdir({str(canary.path)!r})")
    rewrite(own, ({"frame": "envelope", "id": name_of(own).id, "path": [str(place / "modules")],
                   "env": {"SPOILT": "yes"}}, canary.pickle))
    os.chown(own, NOBODY, NOBODY)
    tasks.schedule(defer(os.environ.get, "SPOILT"), priority=-1)
    refused, clean = run(place / "tasks", "reuse")
    assert isinstance(refused.errorvalue, errors.Untrusted) and clean.returnvalue is None and not canary.sang


@pytest.mark.parametrize("state", ["todo", "done", "fail"])
def test_reading_what_somebody_else_has_put_there(place: Path, canary: Canary, state: str) -> None:
    """A whole task with a result, both of them code, in each of the folders."""
    make(place / "tasks")
    path = place / "tasks" / state / "x.t1-ab.pkl"
    path.write_bytes(b"")
    rewrite(path, ({"frame": "envelope", "id": "x"}, canary.pickle), result(path, canary.pickle))
    os.chown(path, NOBODY, NOBODY)
    [task] = getattr(opened(place / "tasks"), f"{state}_tasks")()
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang
    with pytest.raises(errors.Untrusted):
        task.returnvalue  # noqa: B018
    list(getattr(opened(place / "tasks", trust=True), f"{state}_tasks")())
    assert canary.sang


def test_a_result_beside_the_task(place: Path, canary: Canary) -> None:
    """After a take-over results are in ``tries/``: there, too."""
    make(place / "tasks")
    path = place / "tasks" / "done" / "x.t1-ab.lost1.pkl"
    path.write_bytes(b"N.")
    side = place / "tasks" / ".runforrest" / "tries" / "x.t1-ab.pkl"
    side.write_bytes(b"")
    rewrite(side, result(path, canary.pickle))
    os.chown(side, NOBODY, NOBODY)
    [task] = opened(place / "tasks").done_tasks()
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang
    list(opened(place / "tasks", trust=True).done_tasks())
    assert canary.sang


def test_a_list_of_somebody_else(place: Path, canary: Canary) -> None:
    home = place / "home"
    home.mkdir()
    os.chown(home, MALLORY, MALLORY)
    by(MALLORY, lambda: (make(home / "tasks"), (home / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)))
    with pytest.raises(errors.UntrustedFolder, match=f"its owner \\(user {MALLORY}\\)"):
        opened(home / "tasks")
    ended = runforrest("run", home / "tasks")
    assert ended.returncode == 2 and "chown 0" in ended.stderr and "--trust" in ended.stderr and not canary.sang
    assert runforrest("run", home / "tasks", "--trust").returncode == 0 and canary.sang


def test_debugging_a_task_of_somebody_else(place: Path, canary: Canary) -> None:
    make(place / "tasks")
    path = place / "tasks" / "todo" / "0.pkl"
    given_away(path, canary.pickle)
    alone = place / "0.pkl"
    alone.write_bytes(canary.pickle)
    alone.chmod(0o666)
    for each in (path, alone):
        ended = runforrest(each, place / "out.pkl")
        assert ended.returncode == 1 and "not unpickled" in ended.stderr and not canary.sang
    assert runforrest(path, place / "out.pkl", "--trust").returncode == 0 and canary.sang


def test_a_session_of_somebody_else(place: Path, canary: Canary) -> None:
    make(place / "tasks", defer(abs, -1))
    session = place / "tasks" / "session.pkl"
    given_away(session, canary.session())
    ended = runforrest("run", place / "tasks", "-s", session)
    assert ended.returncode == 3 and "can be written by" in ended.stderr and not canary.sang
    ended = runforrest(only(place / "tasks", "todo"), place / "out.pkl", "-s", session)
    assert ended.returncode == 1 and "can be written by" in ended.stderr and not canary.sang
    runforrest("run", place / "tasks", "-s", session, "--trust")
    assert canary.sang


def test_settings_of_somebody_else(place: Path) -> None:
    make(place / "tasks")
    os.chown(place / "tasks" / "runforrest.json", NOBODY, NOBODY)
    with pytest.raises(errors.UntrustedFolder, match=r"runforrest\.json can be written by its owner"):
        opened(place / "tasks")


@pytest.mark.parametrize("folder", ["", "todo", "doing", "done", "fail", ".runforrest", ".runforrest/tries"])
def test_a_folder_that_is_given_away(place: Path, canary: Canary, folder: str) -> None:
    make(place / "tasks")
    (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    os.chown(place / "tasks" / folder, NOBODY, NOBODY)
    with pytest.raises(errors.UntrustedFolder):
        run(place / "tasks")
    assert not canary.sang


def test_swapped_while_it_is_read(place: Path, canary: Canary, tried: Callable[[str, int], None]) -> None:
    """What is checked is the open file: swapping the name in between, thousands of times, gains nothing."""
    made = make(place / "tasks", defer(abs, -1))
    [_] = made.run(1)
    path = only(place / "tasks", "done")
    good, bad = place / "good", place / "bad"
    path.rename(good)
    bad.write_bytes(b"")
    rewrite(bad, result(path, canary.pickle))
    os.chown(bad, NOBODY, NOBODY)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for source in (good, bad):
                os.link(source, place / "next")
                (place / "next").rename(path)
    thread = threading.Thread(target=swap)
    thread.start()
    seen = {"good": 0, "bad": 0, "none": 0}
    fs, name = FileOps(place / "tasks"), name_of(path)
    try:
        while min(seen["good"], seen["bad"]) < 300:
            try:
                task: rf.Task = load_task(fs, "done", name)
                seen["bad" if isinstance(task.errorvalue, errors.Untrusted) else "good"] += 1
            except FileNotFoundError:
                seen["none"] += 1
    finally:
        over.set()
        thread.join()
    tried("reads while the file was swapped", sum(seen.values()))
    assert not canary.sang


def test_a_hard_link_to_a_file_of_ours(place: Path) -> None:
    """A file with a second name somewhere else may be run, if it is ours; it is never written to."""
    make(place / "tasks")
    precious = place / "precious.pkl"
    precious.write_bytes(b"precious, and no pickle")
    os.link(precious, place / "tasks" / "todo" / "0.pkl")
    before = tree(place / "tasks" / "todo")
    [task] = run(place / "tasks")
    assert isinstance(task.errorvalue, errors.Unloadable) and task.attempts[0].outcome == "unloadable"
    assert precious.read_bytes() == before["0.pkl"]


def test_a_hard_link_that_somebody_else_has_made(place: Path, canary: Canary) -> None:
    make(place / "tasks")
    given_away(place / "tasks" / "todo" / "0.pkl", canary.pickle)
    os.link(place / "tasks" / "todo" / "0.pkl", place / "elsewhere")
    [task] = run(place / "tasks")
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang
    assert (place / "elsewhere").read_bytes() == canary.pickle

"""A list for a group: its members are trusted, nobody else is, and nobody's own file says who is trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import runforrest as rf
from runforrest import defer, errors
from tests.cli.programs import runforrest

from .planting import MALLORY, NOBODY, Canary, by, change_settings, file_of, make, needs_root, only, opened, run

GROUP = 4242


@pytest.fixture(params=[0o077, 0o000, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


def test_a_new_list_is_private(place: Path, umask: int) -> None:
    made = make(place / "tasks", defer(abs, -1), defer(print, "x" * 100_000))
    assert len(list(made.run(1, print_output=False))) == 2
    paths = [place / "tasks", *(place / "tasks").rglob("*")]
    assert len(paths) > 8 and [path for path in paths if not private(path)] == []


def seen_while_it_runs(directory: str) -> list[tuple[str, bool, int, int]]:
    """(name, whether it is a folder, mode, group) of everything in the list, its runner's own folders and files too."""
    while True:
        seen = []
        try:
            for folder, _, files in os.walk(directory):
                for path in [folder, *(os.path.join(folder, name) for name in files)]:
                    found = os.lstat(path)
                    seen.append((os.path.relpath(path, directory), stat.S_ISDIR(found.st_mode),
                                 stat.S_IMODE(found.st_mode), found.st_gid))
            return seen
        except FileNotFoundError:           # a heartbeat, say, was just made
            continue


@needs_root
def test_a_list_for_a_group(place: Path, umask: int) -> None:
    """Whatever the umask: folders 2770, files 0660, all of them the group's."""
    (place / "tasks").mkdir(0o700)
    os.chown(place / "tasks", 0, GROUP)
    made = make(place / "tasks", defer(seen_while_it_runs, str(place / "tasks")), defer(print, "x" * 100_000),
                group=True)
    seen = sorted(made.run(1, print_output=False), key=lambda task: task.runtime)[0]
    [value] = [task.returnvalue for task in made.done_tasks() if isinstance(task.returnvalue, list)]
    assert seen.errorvalue is None
    for name, folder, mode, group in [*value, *seen_while_it_runs(str(place / "tasks"))]:
        wanted = 0o2770 if folder else 0o640 if name == "runforrest.json" else 0o660
        assert (mode, group) == (wanted, GROUP), name
    assert any(name.startswith("doing/") and name.endswith(".pkl") for name, *_ in value)


@needs_root
def test_a_list_in_a_folder_that_was_shared_by_somebody_else(place: Path) -> None:
    (place / "tasks").mkdir()
    os.chown(place / "tasks", NOBODY, GROUP)
    (place / "tasks").chmod(0o2770)
    by(MALLORY, lambda: make(place / "tasks", defer(abs, -1), group=True), GROUP)
    [task] = run(place / "tasks", group=True)
    assert task.returnvalue == 1


@needs_root
def test_members_schedule_and_run(place: Path) -> None:
    (place / "tasks").mkdir(0o700)
    os.chown(place / "tasks", 0, GROUP)
    make(place / "tasks", group=True)
    by(MALLORY, lambda: opened(place / "tasks", group=True).schedule(defer(os.getuid)), GROUP)
    assert only(place / "tasks", "todo").stat().st_uid == MALLORY
    [task] = run(place / "tasks")           # the list is ours: no need to say it again
    assert task.returnvalue == os.getuid()

    def read() -> None:
        [task] = opened(place / "tasks", group=True).done_tasks()
        assert task.returnvalue == 0
    by(MALLORY, read, GROUP)


def test_what_is_cancelled_says_so_in_its_own_file(place: Path) -> None:
    """`cancel` unpickles nothing and so asks for no trust, but the list is ours: its files are written to as any."""
    make(place / "tasks", defer(abs, -1), group=True)
    assert runforrest("cancel", place / "tasks", only(place / "tasks", "todo").stem).returncode == 0
    file = only(place / "tasks", "fail")
    assert b'"outcome":"cancelled"' in file.read_bytes() and not (place / "tasks" / ".runforrest" / "tries").exists()


@needs_root
@pytest.mark.parametrize(("uid", "gid", "mode"), [(MALLORY, MALLORY, 0o660), (MALLORY, GROUP, 0o666),
                                                  (0, NOBODY, 0o660), (0, GROUP, 0o662)])
def test_others_are_refused(place: Path, canary: Canary, uid: int, gid: int, mode: int) -> None:
    (place / "tasks").mkdir(0o700)
    os.chown(place / "tasks", 0, GROUP)
    make(place / "tasks", group=True)
    path = place / "tasks" / "todo" / "0.pkl"
    file_of(MALLORY, path, canary.pickle)
    os.chown(path, uid, gid)
    path.chmod(mode)
    [task] = run(place / "tasks")
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang


@needs_root
def test_a_group_list_of_somebody_else(place: Path, canary: Canary) -> None:
    """Its owner trusts the group; whether we do is ours to say."""
    (place / "home").mkdir()
    os.chown(place / "home", MALLORY, GROUP)

    def plant() -> None:
        make(place / "home" / "tasks", group=True)
        (place / "home" / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    by(MALLORY, plant, GROUP)
    with pytest.raises(errors.UntrustedFolder, match=f"--group \\(group=True\\) if you trust the members of group "
                                                     f"{GROUP}"):
        opened(place / "home" / "tasks")
    ended = runforrest("run", place / "home" / "tasks")
    assert ended.returncode == 2 and "--group" in ended.stderr and not canary.sang
    assert runforrest("run", place / "home" / "tasks", "--group").returncode == 0 and canary.sang


@needs_root
def test_a_list_that_somebody_has_declared_a_group_s(place: Path, canary: Canary) -> None:
    """The folder was left open to a group by accident; a member can replace runforrest.json, but is not believed."""
    make(place / "tasks")
    for path in (place / "tasks", *(place / "tasks").glob("*/")):
        os.chown(path, 0, GROUP)
        path.chmod(0o2770)

    def attack() -> None:
        settings = place / "tasks" / "runforrest.json"
        settings.unlink()
        settings.write_text('{"format": 1, "group": true}')
        (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    by(MALLORY, attack, GROUP)
    with pytest.raises(errors.UntrustedFolder):
        run(place / "tasks")
    assert not canary.sang


@needs_root
def test_settings_that_the_group_can_write(place: Path) -> None:
    make(place / "tasks", group=True)
    (place / "tasks" / "runforrest.json").chmod(0o660)
    with pytest.raises(errors.UntrustedFolder):
        opened(place / "tasks")


def test_a_group_list_stays_one(place: Path) -> None:
    make(place / "tasks", defer(abs, -1), group=True)
    again = make_again(place / "tasks")
    again.schedule(defer(abs, -2))
    again.clean()
    again.schedule(defer(abs, -3))
    assert stat.S_IMODE((place / "tasks" / "todo").stat().st_mode) == 0o2770
    assert [task.returnvalue for task in run(place / "tasks")] == [3]


def test_a_private_list_becomes_a_group_s_when_it_is_made_anew(place: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    make_again(place / "tasks", group=True)
    for path in (place / "tasks", place / "tasks" / "todo", place / "tasks" / ".runforrest" / "tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2770


def make_again(directory: Path, group: bool = False) -> rf.TaskList:
    return rf.TaskList(directory, exist_ok=True, durability="none", group=group)


def test_group_in_a_private_list_changes_nothing_there(place: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    change_settings(place / "tasks", group=False)
    run(place / "tasks", group=True)
    assert all(private(path) for path in (place / "tasks").rglob("*"))

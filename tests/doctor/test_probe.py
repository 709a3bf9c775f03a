"""Measuring: real processes on real folders; and on filesystems that break their promises on purpose."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runforrest.cli.exits import FAILED, INTERRUPTED, OK, USAGE
from runforrest.doctor import hands, probe
from runforrest.doctor.hands import Place
from runforrest.doctor.measured import Measured
from runforrest.doctor.probe import Effort, measure
from runforrest.doctor.verdict import BAD, GOOD, NOTE, UNUSABLE, judge
from tests.cli.programs import COMMAND, SECONDS, environment, inside, runforrest
from tests.helpers import has_ended, small_filesystem, wait_for

QUICK = Effort(seconds=5.0, wait=5.0, races=50, rounds=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "list"
    made.mkdir(0o700)
    return made


def check_good(found: Measured) -> None:
    assert not found.failures and not found.hung
    assert found.rename and found.stale and found.create
    assert found.link and found.link.once == found.link.tried
    assert found.rename.once == found.rename.tried >= QUICK.races and found.stale.once == found.stale.tried == 10
    assert found.reading and found.reading["whole"] >= 120 and found.reading["torn"] == found.reading["late"] == 0
    assert [(len(delay.seconds), delay.unseen) for delay in found.delays] == [(2, 0)] * 8
    assert {"create", "rename", "append", "fsync", "fsync folder", "unlink", "list", "syncfs"} == set(found.speed)
    assert judge(found).level == GOOD


def test_one_mount(folder: Path, tried: Callable[[str, int], None]) -> None:
    steps: list[str] = []
    found = measure(Place(str(folder)), None, QUICK, steps.append)
    check_good(found)
    assert found.here and found.here.facts["mount"]["type"] and found.locked is True
    assert os.listdir(folder) == [] and len(steps) == 8
    assert found.rename
    tried("renames raced for by the doctor", found.rename.tried)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm to write to")
def test_in_memory(request: pytest.FixtureRequest) -> None:
    import tempfile
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        found = measure(Place(folder), None, QUICK)
        check_good(found)
        assert "in memory" in "".join(remark.text for remark in judge(found).remarks)


def test_the_same_folder_by_another_path(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    found = measure(Place(str(folder)), Place(str(link)), QUICK)
    check_good(found)
    assert {delay.to for delay in found.delays} == {str(folder), str(link)}


def test_another_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SAME_FOLDER_SECONDS", 0.3)
    other = folder.parent / "other"
    other.mkdir()
    with pytest.raises(ValueError, match=f"{other} is not the same folder as {folder}"):
        measure(Place(str(folder)), Place(str(other)), QUICK)
    with pytest.raises(ValueError, match="No such file"):
        measure(Place(str(folder)), Place(str(folder.parent / "nowhere")), QUICK)
    assert os.listdir(folder) == os.listdir(other) == []


# -- promises broken on purpose ----------------------------------------------------------


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Hands on a filesystem that lies."""
    def lie(what: str) -> None:
        monkeypatch.setenv("LIES", what)
        monkeypatch.setenv("HAND_FOLDER", str(hands.PROGRAM.parent))
        program = Path(__file__).with_name("lying.py")
        monkeypatch.setattr(hands, "_command", lambda place, length: [sys.executable, str(program)])
    return lie


@pytest.mark.parametrize(("lie", "attribute", "text"), [
    ("rename_won_twice", "both", "won by both"), ("rename_false", "false", "and were not"),
    ("rename_loses", "lost", "lost the file")])
def test_a_broken_rename_is_noticed(folder: Path, lying: Callable[[str], None], lie: str, attribute: str,
                                    text: str) -> None:
    lying(lie)
    found = measure(Place(str(folder)), None, QUICK)
    assert found.rename and getattr(found.rename, attribute) > 0
    verdict = judge(found)
    assert verdict.level == UNUSABLE and text in "".join(r.text for r in verdict.remarks if r.level == BAD)
    assert os.listdir(folder) == []


def test_a_rename_that_failed_and_took_place(folder: Path, lying: Callable[[str], None]) -> None:
    lying("rename_done_but_failed")
    found = measure(Place(str(folder)), None, QUICK)
    assert found.rename and found.rename.late == found.rename.once == found.rename.tried
    assert "EIO" in found.rename.errors and judge(found).level == GOOD


def test_half_a_file_is_noticed(folder: Path, lying: Callable[[str], None]) -> None:
    lying("publish_torn")
    found = measure(Place(str(folder)), None, QUICK)
    assert found.reading and found.reading["torn"] >= 100
    assert judge(found).level == UNUSABLE


def test_an_exclusive_create_that_is_not(folder: Path, lying: Callable[[str], None]) -> None:
    lying("create_shared")
    found = measure(Place(str(folder)), None, QUICK)
    assert found.create and found.create.both == found.create.tried
    verdict = judge(found)
    assert verdict.level == GOOD and "exclusive creates" in "".join(r.text for r in verdict.remarks if r.level == NOTE)


@pytest.mark.parametrize("lie, text", [("links_shared", "were made by both"),
                                       ("links_none", "can't be made here (EPERM)")])
def test_links_that_do_not_do_for_keys(folder: Path, lying: Callable[[str], None], lie: str, text: str) -> None:
    lying(lie)
    verdict = judge(measure(Place(str(folder)), None, QUICK))
    assert text in "".join(r.text for r in verdict.remarks) and verdict.level != UNUSABLE


def test_listings_that_are_late(folder: Path, lying: Callable[[str], None]) -> None:
    lying("listdir_late")
    found = measure(Place(str(folder)), None, QUICK)
    delays = {delay.kind: min(delay.seconds) for delay in found.delays}
    assert delays["new"] > 0.3 and delays["beat"] > 0.3     # a kernel's clock of files may be a tick behind
    assert judge(found).longest_delay > 0.3


def test_a_folder_that_hangs(folder: Path, lying: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    lying("rename_hangs")
    monkeypatch.setattr(probe, "PATIENCE", 2.0)
    monkeypatch.setattr(hands, "LAST_CHANCE", 0.1)
    found = measure(Place(str(folder)), None, QUICK)
    assert found.hung == "rename race" and judge(found).level == UNUSABLE


def test_a_hand_that_dies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [[sys.executable, "-I", str(hands.PROGRAM)], [sys.executable, "-c", "import sys; sys.exit('no room')"]]
    monkeypatch.setattr(hands, "_command", lambda place, length: commands.pop(0))
    with pytest.raises(ValueError, match="no room"):
        measure(Place(str(folder)), None, QUICK)
    assert os.listdir(folder) == []


# -- the command -------------------------------------------------------------------------


def test_command(folder: Path) -> None:
    ended = runforrest("doctor", folder)
    assert ended.returncode == OK, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[-2] == f"verdict: good: {folder} keeps what the protocol needs"
    assert lines[-1].startswith('settings: "beat": ') and f"TaskList('{folder}') chooses" in lines[-1]
    assert any(line.startswith("rename, own names") and " won once" in line for line in lines)
    found = json.loads(runforrest("doctor", folder, "--json").stdout)
    assert found["verdict"]["level"] == "good" and found["measured"]["rename"]["both"] == 0


def test_command_on_a_list_whose_lease_is_too_short(folder: Path) -> None:
    (folder / "todo").mkdir()
    (folder / "runforrest.json").write_text('{"format": 1, "beat": 0.000001, "lease": 3, "durability": "none"}')
    ended = runforrest("doctor", folder)
    assert ended.returncode == OK
    assert "verdict: good with these settings" in ended.stdout and "the lease of this list, 3 beats of" in ended.stdout
    assert sorted(os.listdir(folder)) == ["runforrest.json", "todo"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to: /proc")
def test_command_where_nothing_can_be_written() -> None:
    ended = runforrest("doctor", "/proc")
    assert ended.returncode == FAILED
    assert "bad: making a folder: " in ended.stdout and ended.stdout.splitlines()[-1].startswith("verdict: not usable")


@pytest.mark.parametrize(("options", "step"), [
    ("size=8k", "speed"), ("size=512k", "speed"), ("size=20m,nr_inodes=4", "making a folder"),
    ("size=9m", "rename race|reading"),         # which, depends on how many files the race needs to be one
    ("size=20m,nr_inodes=300", "speed")])
def test_command_where_there_is_no_room(tmp_path: Path, options: str, step: str) -> None:
    """That is no broken promise."""
    with small_filesystem(tmp_path, options) as place:
        ended = inside("doctor", place)
        assert os.listdir(place) == []
    assert ended.returncode == FAILED
    assert re.search(f"warning: ({step}): .*No space left.* were free at the beginning", ended.stdout), ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("verdict: too little room to try")
    assert "not usable" not in ended.stdout


def test_wrong_use(folder: Path) -> None:
    (folder / "file").touch()
    for arguments, text in (
            ([folder / "a" / "b"], f"`runforrest doctor {folder}`"), ([folder / "file"], "is not a folder"),
            ([folder, "--yes"], "go with --repair"), ([folder, "--repair", "--thorough"], "measures nothing"),
            ([folder, "--peer", folder / "a"], "No such file")):
        ended = inside("doctor", *arguments)
        assert ended.returncode == USAGE and text in ended.stderr, ended.stderr


@pytest.mark.parametrize(("blow", "moment"), [(signal.SIGINT, "*"), (signal.SIGTERM, "*"), (signal.SIGKILL, "*"),
                                              (signal.SIGINT, "*/won/*")])
def test_interrupted(folder: Path, blow: signal.Signals, moment: str) -> None:
    """Whatever ends it, the folder that it has made is removed, and no process is left.

    In a race, each hand is about to answer more than a pipe holds.
    """
    program = subprocess.Popen([*COMMAND, "doctor", str(folder), "--thorough"], env=environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        wait_for(lambda: list(folder.glob(moment)), SECONDS)
        started = psutil.Process(program.pid).children()
        os.killpg(program.pid, blow)       # as a terminal does with Ctrl-C
        code = program.wait(SECONDS)
    finally:
        program.kill()
        program.wait()
    assert code == (INTERRUPTED if blow == signal.SIGINT else -blow) and len(started) == 2
    wait_for(lambda: not os.listdir(folder), SECONDS)
    wait_for(lambda: all(map(has_ended, started)), SECONDS)


def test_the_hand_needs_only_an_old_python() -> None:
    tree = ast.parse(hands.PROGRAM.read_text("ascii"), feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names and "__future__" not in imported

"""The second hand on another host: a real sshd on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runforrest.cli.exits import OK, USAGE
from runforrest.doctor import probe
from runforrest.doctor.hands import HandProcess, Place
from runforrest.doctor.verdict import BAD, UNUSABLE, judge
from tests.cli.programs import runforrest
from tests.doctor.sshd import server
from tests.doctor.test_probe import QUICK, check_good


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("sshd"), f"{Path(sys.executable).parent}:/usr/bin:/bin") as host:
        yield host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "list"
    made.mkdir(0o700)
    return made


def test_two_hands(there: str, folder: Path) -> None:
    found = probe.measure(Place(str(folder)), Place(str(folder), there), QUICK)
    check_good(found)
    assert found.there and found.there.place == f"there:{folder}"
    assert found.there.facts["pid"] != os.getpid() and abs(found.there.clock_offset) < 1.0 + found.there.round_trip
    assert os.listdir(folder) == []


def test_command(there: str, folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    ended = runforrest("doctor", folder, "--ssh", there, "--peer", link, "--json")
    assert ended.returncode == OK, ended.stderr
    found = json.loads(ended.stdout)
    assert found["measured"]["there"]["place"] == f"there:{link}" and found["verdict"]["level"] == "good"


def test_another_folder(there: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SAME_FOLDER_SECONDS", 0.3)
    with pytest.raises(ValueError, match=f"there:{folder.parent} is not the same folder as {folder}"):
        probe.measure(Place(str(folder)), Place(str(folder.parent), there), QUICK)
    assert os.listdir(folder) == []


def test_a_connection_that_breaks(there: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[HandProcess] = []
    start = HandProcess.__init__

    def remember(hand: HandProcess, place: Place) -> None:
        start(hand, place)
        connections.append(hand)
    monkeypatch.setattr(HandProcess, "__init__", remember)

    def cut(what: str) -> None:
        if what == "reading":
            connections[1]._process.kill()
    found = probe.measure(Place(str(folder)), Place(str(folder), there), QUICK, cut)
    assert found.rename and "has ended" in found.failures["reading"]
    verdict = judge(found)
    assert verdict.level == UNUSABLE and "reading" in "".join(r.text for r in verdict.remarks if r.level == BAD)
    assert os.listdir(folder) == []


def test_no_such_host(folder: Path, there: str) -> None:
    ended = runforrest("doctor", folder, "--ssh", f"{there.rpartition(' ')[0]} -p 1 nowhere")
    assert ended.returncode == USAGE and "can't be reached: ssh: connect to host" in ended.stderr
    assert os.listdir(folder) == []


def test_no_python_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with server(tmp_path / "sshd", "/nowhere") as there:
        ended = runforrest("doctor", folder, "--ssh", there)
    assert ended.returncode == USAGE and f"there:{folder} can't be reached: " in ended.stderr
    assert ended.stderr.count("\n") == 1 and os.listdir(folder) == []

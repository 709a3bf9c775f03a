"""What real hosts have shown of the keeper, held here without them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import LEAST_LEASE, Settings
from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev
from runforrest.runner.keeper import Keeper
from tests.folder.support import claim, make, places, schedule
from tests.helpers import wait_for

ELSEWHERE = json.dumps({"host": "elsewhere", "boot": "another", "processes": [[1, "1"]]}).encode()


class Lent(FileOps):
    """A server that lets nobody move the files of the runner E: it has lent them to a host that is dead."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.given_back = threading.Event(), threading.Event()

    def before(self, operation: str, *args: object) -> None:
        if operation == "rename" and str(args[0]).startswith("doing/E/"):
            self.asked.set()
            self.given_back.wait()


@pytest.fixture
def lent(tasklist_dir: Path) -> Iterator[Lent]:
    made = make(tasklist_dir)
    made.fs.mkdir("doing/E")
    made.fs.create(f"{layout.HB}/E@0", [ELSEWHERE])
    claim(made, schedule(made, "x"), "E")
    fs = Lent(tasklist_dir)
    yield fs
    fs.given_back.set()


def test_beats_do_not_wait_for_a_task_that_is_taken_back(lent: Lent) -> None:
    """Else one dead host on NFSv4 has all the others declared dead."""
    told: list[ev.Event] = []
    member = Membership(TaskFolder(lent, Settings(beat=0.02, lease=8)), "R")
    member.register()
    keeper = Keeper(member, told.append)
    keeper.start()
    try:
        wait_for(lent.asked.is_set)
        beats = member.beats
        wait_for(lambda: member.beats > beats + 20)
        lent.given_back.set()
        wait_for(lambda: places(lent.root) == {"x": ["todo"]})
        wait_for(lambda: any(isinstance(event, ev.MoreWork) for event in told))
    finally:
        lent.given_back.set()
        keeper.close()
    assert not any(isinstance(event, ev.Fenced) for event in told)


def test_patience_begins_with_the_first_heartbeat(tasklist_dir: Path) -> None:
    """And not before the modules to preload were there."""
    folder = make(tasklist_dir)
    member = Membership(folder, "R")
    keeper = Keeper(member, lambda event: None)
    keeper.last_beat -= 1000
    member.register()
    keeper.start()
    assert time.monotonic() - keeper.last_beat < keeper.patience
    wait_for(lambda: member.beats == 1, what="the first beat comes at once, whatever the period")
    keeper.close()


@pytest.mark.parametrize("lease", [LEAST_LEASE, 4, 8])
def test_tasks_end_before_others_may_take_them(tasklist_dir: Path, lease: int) -> None:
    """Others count `lease` looks, of which the first two may follow each other at once."""
    make(tasklist_dir)
    settings = Settings(beat=15.0, lease=lease)
    keeper = Keeper(Membership(TaskFolder(FileOps(tasklist_dir), settings), "R"), lambda event: None)
    assert keeper.patience > settings.beat, "or a beat in time would be too late"
    assert keeper.patience < settings.beat * (lease - 1)

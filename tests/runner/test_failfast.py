"""A runner at a batch that ends at the first failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runforrest import Command, TaskList
from runforrest.folder import layout, requests
from runforrest.folder.fsio import FileOps
from runforrest.runner import failfast
from runforrest.runner.failfast import FailFast
from tests.helpers import wait_for


@pytest.mark.parametrize("asked", [True, False])
def test_a_runner_waits_for_the_feeder_to_take_back_the_rest(tasklist_dir: Path, asked: bool) -> None:
    """Because it has seen a failure, or because it is asked."""
    tasks, fs = TaskList(tasklist_dir, durability="none"), FileOps(tasklist_dir)
    (tasklist_dir / layout.FAIL_FAST).touch()
    for line in ("true" if asked else "false", f"touch {tasklist_dir}/late"):
        tasks.schedule(Command(line))
    if asked:
        requests.ask(fs, requests.HOLD)
    with subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "-n", "1", "--quiet"]) as run:
        if asked:
            wait_for(lambda: fs.entries(layout.HB), 30)
        else:
            wait_for(lambda: fs.entries(layout.FAIL), 30)
        assert len(fs.entries(layout.TODO)) == 1 + asked and not (tasklist_dir / "late").exists()
        fs.unlink(layout.FAIL_FAST)
        wait_for(lambda: (tasklist_dir / "late").exists(), 30)
        assert run.wait(30) == (0 if asked else 1)


def test_it_waits_for_a_while_only_and_in_such_a_batch_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = FileOps(tmp_path)
    assert not FailFast(fs).holds(asked=True)
    (tmp_path / layout.FAIL_FAST).touch()
    here = FailFast(fs)
    assert not here.holds(asked=False) and here.holds(asked=True) and here.urgent
    monkeypatch.setattr(failfast, "HOLD_SECONDS", 0.0)
    here = FailFast(fs)
    here.note()
    assert not here.holds(asked=True) and not here.holds(asked=True)

"""Many processes that start at once on one list: what it costs is told by the file operations per key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest.once import settings
from runforrest.once.folder import FolderStore
from tests.helpers import wait_for
from tests.hosts.machines import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Tried = Callable[[str, int], None]
PROCESSES, KEYS = 24, 6000


def test_what_many_processes_at_once_cost(tasklist_dir: Path, tmp_path: Path, tried: Tried) -> None:
    """With 24 processes each key costs little more than with one; none of them lists everything again and again."""
    FolderStore(tasklist_dir)
    log, go = tmp_path / "log", tmp_path / "log.go"
    command = [sys.executable, "-m", "tests.once.work", "count", str(tasklist_dir), str(log), str(KEYS)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(PROCESSES)]
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == PROCESSES, 120, "all have been started")
    go.touch()
    assert [process.wait() for process in processes] == [0] * PROCESSES
    total: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        total.update(json.loads(line))
    assert total["keys"] == KEYS and sum(e.condition.success for e in FolderStore(tasklist_dir).entries("")) == KEYS
    for operation in ("create", "symlink", "rename"):
        assert total[operation] < 1.3 * KEYS, total
    assert total["exists"] < 0.4 * PROCESSES * KEYS, f"all of them look at each key: {total}"
    shards = settings.KeySettings().shards
    assert total["listdir"] < 6 * PROCESSES * shards, total
    tried("keys that 24 processes shared from the same moment on", KEYS)
    tried("file operations that this took", sum(total.values()) - total["keys"])


def test_a_process_that_comes_late_lists_everything_once(tasklist_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.go").touch()
    command = [sys.executable, "-m", "tests.once.work", "count", str(tasklist_dir), str(log), "2000"]
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    late = json.loads(log.read_text().splitlines()[-1])
    assert late["keys"] == 0 and late["listdir"] <= settings.KeySettings().shards
    assert sum(late.values()) - late["listdir"] < 10, late

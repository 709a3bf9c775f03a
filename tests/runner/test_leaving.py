"""Runners that give their host back when nothing is left to be begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runforrest import Command, TaskList
from tests.helpers import files, wait_for


def run(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(directory), "-n", "1", "--quiet", *options])


def test_a_runner_leaves_while_another_is_at_work(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(Command(f"touch {tmp_path}/begun; while test ! -e {tmp_path}/end; do sleep 0.05; done"))
    with run(tasklist_dir) as first:
        wait_for((tmp_path / "begun").exists, 30)
        with run(tasklist_dir, "--leave-when-dry") as second:
            assert second.wait(30) == 0 and first.poll() is None
        (tmp_path / "end").touch()
        assert first.wait(30) == 0


def test_in_a_batch_it_stays_until_all_lines_were_read(tmp_path: Path) -> None:
    """At a barrier there is nothing to be begun, and yet there will be."""
    (tmp_path / "Tasks").write_text("touch begun; while test ! -e go; do sleep 0.05; done\n#DISBATCH BARRIER\n"
                                    "touch second; while test ! -e end; do sleep 0.05; done\n")
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-s", "localhost:1", "-p", "x", "Tasks"],
                          cwd=tmp_path) as batch:
        wait_for((tmp_path / "begun").exists, 30)
        with run(tmp_path / "x_tasklist", "--leave-when-dry") as other:
            wait_for(lambda: len(files(tmp_path, "x_tasklist/doing/*")) == 2, 30)
            try:
                other.wait(3)
                raise AssertionError("it has left at the barrier")
            except subprocess.TimeoutExpired:
                pass
            (tmp_path / "go").touch()
            wait_for((tmp_path / "second").exists, 30)
            held = files(tmp_path, "x_tasklist/doing/*/500-*")[0]
            if str(other.pid) not in held.parent.name:
                assert other.wait(30) == 0, "all lines were read, and it has nothing to do"
            (tmp_path / "end").touch()
            assert other.wait(30) == 0
        assert batch.wait(30) == 0

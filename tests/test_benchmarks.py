"""The benchmarks run and print their rows; what the numbers are depends on the machine, so nobody asserts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import commands, operations
from benchmarks.common import Broken, counts, ext4_image, filesystem
from benchmarks.overhead import limits, ours
from benchmarks.peers import chosen

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow               # once is enough, whatever Python it is


def benchmark(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "benchmarks", *map(str, words)], cwd=ROOT, env=environment,
                          capture_output=True, text=True)


def lines(run: subprocess.CompletedProcess[str], kind: str) -> list[dict[str, Any]]:
    assert run.returncode == 0, run.stderr
    return [line for line in map(json.loads, run.stdout.splitlines()) if kind in line]


def test_overhead_prints_a_row_per_contender(tmp_path: Path) -> None:
    run = benchmark("overhead", "-n", 20, "--rounds", 1, "--peers", "pool,spawn", "--dir", tmp_path, "--json")
    rows = {row["contender"]: row for row in lines(run, "table")}
    expected = {contender.name for contender in [*limits(20), *ours(20)]}
    assert set(rows) == expected | {"Pool(maxtasksperchild=1)", "python -c pass"}
    assert all(row["min"] > 0 and row["x limit"] > 0 for row in rows.values())
    goals = {line["goal"]: line["verdict"] for line in lines(run, "goal")}
    assert goals.pop("process, none: at least 40 x faster than RunForrest") == "not measured"
    assert set(goals.values()) <= {"met", "missed", "not measured"}
    assert not list(tmp_path.iterdir()), "the scratch folder is still there"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_operations_per_task(tmp_path: Path) -> None:
    run = benchmark("operations", "-n", 10, "--dir", tmp_path, "--json")
    if "ptrace" in run.stderr:
        pytest.skip("strace is not allowed here")
    rows = {row["operation"]: row for row in lines(run, "table")}
    assert {"create", "rename", "open", "fsync", "write", "names and fsync", "all"} <= set(rows)
    assert rows["create"]["schedule"] == 1, "the design's cost of scheduling: 1 create and 1 rename"
    assert rows["rename"]["schedule"] == 1
    assert len(lines(run, "goal")) == 2


def test_schedule_prints_tables(tmp_path: Path) -> None:
    run = benchmark("schedule", "-n", 20, "--rounds", 1, "--dir", tmp_path, "--markdown")
    assert run.returncode == 0, run.stderr
    table = [line for line in run.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 8 and table[1].startswith("| --- |")


def test_memory_compares_two_numbers_of_tasks(tmp_path: Path) -> None:
    run = benchmark("memory", "-n", "10,20", "--process-n", "5,10", "--dir", tmp_path, "--json")
    assert [(row["isolation"], row["n"]) for row in lines(run, "table")] == [
        ("reuse", 10), ("reuse", 20), ("process", 5), ("process", 10)]


def test_fork_prints_the_template(tmp_path: Path) -> None:
    run = benchmark("fork", "-n", 5, "--rounds", 1, "--dir", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "template, dill, 2 at a time" in run.stdout


def test_durability_compares_the_levels(tmp_path: Path) -> None:
    run = benchmark("durability", "-n", 10, "--process-n", 5, "--rounds", 1, "--dir", tmp_path, "--json")
    rows = lines(run, "table")
    assert [(row["isolation"], row["durability"], row["n"]) for row in rows] == [
        (isolation, level, n) for isolation, n in (("process", 5), ("reuse", 10))
        for level in ("none", "calls", "normal", "full")]
    assert all(row["median us"] > 0 and row["x none"] > 0 for row in rows)
    assert [row["x none"] for row in rows if row["durability"] == "none"] == [1, 1]
    assert any(line["facts"].get("filesystem") == filesystem(tmp_path) for line in lines(run, "facts"))
    assert len(lines(run, "goal")) == 2
    assert ("is on tmpfs" in run.stderr) == (filesystem(tmp_path) == "tmpfs")
    assert not list(tmp_path.iterdir()), "the scratch folder is still there"


def test_commands_compares_tools(tmp_path: Path) -> None:
    run = benchmark("commands", "-n", 10, "--disbatch-n", 0, "--rounds", 1, "--dir", tmp_path, "--json")
    rows = {row["contender"]: row for row in lines(run, "table")}
    expected = {"runforrest batch"} | {name for name, program in commands.PROGRAMS.items() if shutil.which(program)}
    assert set(rows) == expected and all(row["min"] > 0 for row in rows.values())
    verdicts = {line["goal"]: line["verdict"] for line in lines(run, "goal")}
    assert verdicts["faster than disBatch 3.0"] == "not measured" and len(verdicts) == 2
    assert not list(tmp_path.iterdir()), "the scratch folder is still there"


def test_futures_compares_executors(tmp_path: Path) -> None:
    run = benchmark("futures", "-n", 20, "--rounds", 1, "--peers", "none", "--dir", tmp_path, "--json")
    rows = lines(run, "table")
    assert len(rows) == 3 and not list(tmp_path.iterdir())


@pytest.mark.skipif(filesystem("/dev/shm") != "tmpfs", reason="needs a tmpfs in /dev/shm")
def test_durability_on_tmpfs_is_warned_of() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        run = benchmark("durability", "-n", 2, "--process-n", 2, "--rounds", 1, "--dir", folder)
        assert run.returncode == 0 and "is on tmpfs, where forcing costs nothing" in run.stderr


# -- strace's lines ----------------------------------------------------------------------


@pytest.mark.parametrize("line, call, names", [
    ('1.5 openat(AT_FDCWD</work>, "/list/todo/a", O_RDONLY|O_NOFOLLOW) = 5</list/todo/a>', "open", ["/list/todo/a"]),
    ('1.5 openat(AT_FDCWD</work>, "a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</work/a>', "create", ["/work/a"]),
    ('1.5 rename("/list/todo/a", "/list/done/a") = 0', "rename", ["/list/todo/a", "/list/done/a"]),
    ('1.5 renameat(3</list>, "todo/a", 3</list>, "done/a") = 0', "rename", ["/list/todo/a", "/list/done/a"]),
    ('1.5 newfstatat(1</list/log>, "", {st_mode=S_IFREG|0600, st_size=0, ...}, AT_EMPTY_PATH) = 0', "fstat",
     ["/list/log"]),
    ('1.5 newfstatat(AT_FDCWD</w>, "/list/x", 0x7ffd, AT_SYMLINK_NOFOLLOW) = -1 ENOENT (No such file)', "stat",
     ["/list/x"]),
    ('1.5 write(4</list/doing/a>, ""..., 500) = 500', "write", ["/list/doing/a"]),
    ('1.5 write(4<pipe:[123]>, ""..., 500) = 500', "write", []),
])
def test_a_line_of_strace(line: str, call: str, names: list[str]) -> None:
    assert operations.parse(line) == (1.5, call, names)


@pytest.mark.parametrize("line", ["1.5 +++ exited with 0 +++", "", "strace: Process 5 attached"])
def test_other_lines_of_strace(line: str) -> None:
    assert operations.parse(line) is None


# -- arguments ---------------------------------------------------------------------------


def test_unknown_peers_are_named() -> None:
    assert chosen("none") == [] and chosen("pool,jug") == ["pool", "jug"]
    with pytest.raises(Broken, match="does not know ray"):
        chosen("pool,ray")
    assert benchmark("overhead", "--peers", "ray").returncode == 1


def test_numbers_of_tasks() -> None:
    assert counts("30,2") == [2, 30]
    with pytest.raises(ValueError):
        counts("0")


def test_the_filesystem_of_a_folder_is_known(tmp_path: Path) -> None:
    if os.path.exists("/proc/self/mountinfo"):
        assert filesystem(tmp_path) and filesystem("/proc") == "proc"


def test_an_image_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Broken, match="needs root"), ext4_image(str(tmp_path)):
        pass

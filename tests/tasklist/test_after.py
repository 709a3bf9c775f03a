"""`schedule(after=…)` with real runners: order, failures, groups, and what happens when somebody dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer, errors
from runforrest.errors import DependencyFailed, InvalidArgument, NoSuchTask
from runforrest.folder import layout
from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev
from runforrest.model.names import Name
from runforrest.runner.preflight import LOOK_AT
from runforrest.runner.release import Releaser
from tests.helpers import files, wait_for
from tests.tasklist import work

Tried = Callable[[str, int], None]
ROOT = Path(__file__).resolve().parent.parent.parent


def opened(directory: Path, **options: Any) -> TaskList:
    return TaskList(directory, exist_ok=True, pre_clean=False, durability="none", **options)


def runforrest(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "runforrest", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60, env={**os.environ, **environment})


def names(directory: Path, state: str) -> list[str]:
    """What the user called the tasks in this state."""
    found = (Name.parse(path.name) for path in files(directory, f"{state}/**/*.pkl"))
    return sorted(name.label for name in found if name is not None)


def waits_for(log: str, name: str, *before: str) -> str:
    """Says that it ran; fails if one of the others had not been run before."""
    done = Path(log).read_text().split() if os.path.exists(log) else []
    assert set(before) <= set(done), f"{name} ran after {done}"
    work.note(log, name)
    return name


def fails() -> None:
    raise ValueError("this one fails")


def schedules_more(directory: str, name: str) -> str:
    """A task that schedules another, to be run after itself."""
    tasks = TaskList(directory, exist_ok=True, pre_clean=False)
    return tasks.schedule(defer(abs, -7), name=name, after=os.environ["RUNFORREST_TASK"])


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
def test_a_diamond(tasklist_dir: Path, tmp_path: Path, ordered: bool) -> None:
    tasks, log = opened(tasklist_dir), str(tmp_path / "log")
    first = defer(waits_for, log, "a")
    tasks.schedule(first, name="a")
    b = tasks.schedule(defer(waits_for, log, "b", "a"), name="b", after=first)
    c = tasks.schedule(defer(waits_for, log, "c", "a"), name="c", after=[first])
    tasks.schedule(defer(waits_for, log, "d", "b", "c"), name="d", after=(b, c), priority=400)
    assert names(tasklist_dir, "todo") == ["a"] and names(tasklist_dir, "waiting") == ["b", "c", "d"]
    assert [task.scheduled.name for task in tasks.waiting_tasks()] == ["d", "b", "c"]
    run = tasks.run(3, ordered=ordered)
    assert len(run) == 4
    found = [task.returnvalue for task in run]
    assert sorted(found) == ["a", "b", "c", "d"] and (not ordered or found == ["d", "a", "b", "c"])
    assert sorted(os.listdir(tasklist_dir)) == ["done", "fail", "history.jsonl", "runforrest.json", "todo"]


def test_stages(tasklist_dir: Path, tmp_path: Path) -> None:
    """Groups as barriers, of tasks that another program has scheduled, too."""
    tasks, log = opened(tasklist_dir), str(tmp_path / "log")
    tasks.schedule(defer(waits_for, log, "0"), name="0", group="prep")
    opened(tasklist_dir).schedule(defer(waits_for, log, "1"), name="1", group="prep")
    for name in "23":
        tasks.schedule(defer(waits_for, log, name, "0", "1"), name=name, group="fit", after="prep")
    tasks.schedule(defer(waits_for, log, "4", "0", "1", "2", "3"), name="4", after=["prep", "fit"], group="prep")
    assert len(list(tasks.run(3))) == 5 and names(tasklist_dir, "done") == list("01234")
    tasks.schedule(defer(abs, -1), name="5", after="prep")
    assert names(tasklist_dir, "todo") == ["5"], "all of them are done"


def test_what_was_removed_does_not_belong_to_a_group(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    gone = tasks.schedule(defer(abs, -1), group="prep")
    (tasklist_dir / "todo" / f"{gone}.pkl").unlink()
    tasks.schedule(defer(abs, -2), name="x", after="prep")
    assert names(tasklist_dir, "todo") == ["x"]


def test_thousands(tasklist_dir: Path, tried: Tried) -> None:
    tasks = opened(tasklist_dir)
    first = tasks.schedule(defer(abs, -1))
    for number in range(1000):
        tasks.schedule(defer(abs, number), after=first, group="all")
    tasks.schedule(defer(abs, -2), after="all", name="last")
    begun = time.monotonic()
    values = [task.returnvalue for task in tasks.run(2, isolation="reuse", print_output=False)]
    print(f"1002 tasks in {time.monotonic() - begun:.1f} s")
    assert values[0] == 1 and values[-1] == 2 and sorted(values[1:-1]) == list(range(1000))
    tried("tasks that waited for others, run by real runners", 1001)


def test_a_task_that_schedules_what_comes_after_it(tasklist_dir: Path) -> None:
    """It is at work, so it is not done: the other waits until it is."""
    tasks = opened(tasklist_dir)
    tasks.schedule(defer(schedules_more, str(tasklist_dir), "child"), name="parent")
    assert runforrest("run", "--quiet", tasklist_dir).returncode == 0
    assert names(tasklist_dir, "done") == ["child", "parent"]


def test_a_loaded_task_can_be_waited_for(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    tasks.schedule(defer(fails), name="bad")
    list(tasks.run(1))
    (bad,) = tasks.fail_tasks()
    tasks.schedule(defer(abs, -1), name="x", after=bad, even_if_failed=True)
    tasks.schedule(defer(abs, -1), name="y", after=[bad])
    assert names(tasklist_dir, "todo") == ["x"] and names(tasklist_dir, "fail") == ["bad", "y"]


@pytest.mark.parametrize("after, error", [
    ("nobody", NoSuchTask), (["nobody"], NoSuchTask), ("../../etc", InvalidArgument), (5, InvalidArgument),
    ([5], InvalidArgument), (defer(abs, 1), InvalidArgument), ("", InvalidArgument), (["a", None], InvalidArgument)])
def test_what_can_not_be_meant(tasklist_dir: Path, after: Any, error: type[Exception]) -> None:
    tasks = opened(tasklist_dir)
    with pytest.raises(error, match="after"):
        tasks.schedule(defer(abs, -1), after=after)
    assert names(tasklist_dir, "") == []


def test_nothing_to_wait_for(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    nothing: list[Any] = [(), [], iter(())]
    for after in nothing:
        tasks.schedule(defer(abs, -1), after=after)
    assert len(names(tasklist_dir, "todo")) == 3 and not (tasklist_dir / "waiting").exists()


# -- failures --------------------------------------------------------------------------------------


def test_failures(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    bad = tasks.schedule(defer(fails), name="bad")
    x = tasks.schedule(defer(abs, -1), name="x", after=bad)
    tasks.schedule(defer(abs, -2), name="y", after=x)
    tasks.schedule(defer(abs, -3), name="clean-up", after=[bad, x], even_if_failed=True)
    run = tasks.run(2)
    assert len(run) == 4
    ended = {task.scheduled.name: task for task in run}
    assert len(ended) == 4 and ended["clean-up"].returnvalue == 3
    for name, why in (("x", bad), ("y", x)):
        assert isinstance(ended[name].errorvalue, DependencyFailed) and why in str(ended[name].errorvalue)
        assert [attempt.outcome for attempt in ended[name].attempts] == ["dependency_failed"]
    history = [json.loads(line) for line in (tasklist_dir / "history.jsonl").read_text().splitlines()]
    assert sorted(line["outcome"] for line in history) == ["dependency_failed"] * 2 + ["raised", "returned"]


def test_retries_are_waited_for(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = opened(tasklist_dir)
    a = tasks.schedule(defer(work.fails_until, str(tmp_path / "log"), 2), retries=2, backoff=0)
    tasks.schedule(defer(abs, -1), after=a)
    assert sorted(task.returnvalue for task in tasks.run(2)) == [1, 3]


def test_retry(tasklist_dir: Path, tmp_path: Path) -> None:
    """`runforrest retry` of all that failed: what had not been run waits again."""
    tasks, flag = opened(tasklist_dir), tmp_path / "flag"
    a = tasks.schedule(defer(os.stat, str(flag)), name="a")
    b = tasks.schedule(defer(abs, -2), name="b", after=a)
    tasks.schedule(defer(abs, -3), name="c", after=b)
    assert runforrest("run", "--quiet", tasklist_dir).returncode == 1
    assert names(tasklist_dir, "fail") == ["a", "b", "c"]
    ended = runforrest("retry", tasklist_dir, "b")
    assert "1 task stayed in fail/" in ended.stdout and names(tasklist_dir, "fail") == ["a", "b", "c"]
    flag.touch()
    found = json.loads(runforrest("retry", tasklist_dir, "--all", "--json").stdout)
    assert found["requeued"] == [a] and len(found["waiting"]) == 2
    assert names(tasklist_dir, "todo") == ["a"] and names(tasklist_dir, "waiting") == ["b", "c"]
    assert runforrest("run", "--quiet", tasklist_dir).returncode == 0
    assert names(tasklist_dir, "done") == ["a", "b", "c"]


def test_what_waits_for_ever_is_no_reason_to_stay(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    a = tasks.schedule(defer(abs, -1), name="a")
    tasks.schedule(defer(abs, -2), name="x", after=a)
    tasks.schedule(defer(abs, -3), name="other")
    (tasklist_dir / "todo" / f"{a}.pkl").unlink()
    assert len(tasks.run(1)) == 1, "x is no part of it"
    ended = runforrest("run", tasklist_dir)
    assert ended.returncode == 4 and f"1 task in waiting/ waits for what is not in the list any more, as {a}" in \
        ended.stderr
    assert names(tasklist_dir, "done") == ["other"]
    ended = runforrest("doctor", tasklist_dir, "--repair", "--yes")
    assert "nowhere in the list" in ended.stdout + ended.stderr and names(tasklist_dir, "fail") == ["x"]
    assert runforrest("run", "--quiet", tasklist_dir).returncode == 0


def test_removed_while_the_run_is_on(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, go = opened(tasklist_dir), tmp_path / "go"
    tasks.schedule(defer(work.started_then_wait, str(tmp_path / "log"), str(go)), name="first")
    a = tasks.schedule(defer(abs, -1), name="a")
    tasks.schedule(defer(abs, -2), name="x", after=a)
    run = iter(tasks.run(1))
    thread = subprocess.Popen([sys.executable, "-c", "import os, sys, time\n"
                               "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
                               "os.unlink(sys.argv[2]); open(sys.argv[3], 'w')", str(tmp_path / "log"),
                               str(tasklist_dir / "todo" / f"{a}.pkl"), str(go)])
    with pytest.raises(errors.Stopped, match="what is left waits for tasks that are gone"):
        list(run)
    assert thread.wait(10) == 0 and names(tasklist_dir, "waiting") == ["x"]


# -- several runners, and their deaths -------------------------------------------------------------


def test_a_run_leaves_to_others_what_waits_for_others(tasklist_dir: Path, tmp_path: Path) -> None:
    """What another runner holds is not this run's, nor what waits for it."""
    tasks, go = opened(tasklist_dir), tmp_path / "go"
    a = tasks.schedule(defer(work.started_then_wait, str(tmp_path / "log"), str(go)), name="a")
    tasks.schedule(defer(abs, -2), name="x", after=a)
    other = subprocess.Popen([sys.executable, "-m", "runforrest", "run", "-n", "1", "--quiet", str(tasklist_dir)],
                             cwd=ROOT)
    try:
        wait_for(lambda: (tmp_path / "log").exists(), 30)
        tasks.schedule(defer(abs, -3), name="mine")
        run = tasks.run(1)
        assert len(run) == 1 and [task.returnvalue for task in run] == [3]
        assert names(tasklist_dir, "waiting") == ["x"]
    finally:
        go.touch()
        assert other.wait(30) == 0
    assert names(tasklist_dir, "done") == ["a", "mine", "x"]


def test_two_runners(tasklist_dir: Path, tmp_path: Path) -> None:
    """An idle one stays while the other is at work, and takes its share of what is let go."""
    tasks, go = opened(tasklist_dir), tmp_path / "go"
    a = tasks.schedule(defer(work.started_then_wait, str(tmp_path / "log"), str(go)), name="a")
    for _ in range(20):
        tasks.schedule(defer(os.getppid), after=a)
    command = [sys.executable, "-m", "runforrest", "run", "-n", "1", "--quiet", str(tasklist_dir)]
    runners = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    try:
        wait_for(lambda: len(os.listdir(tasklist_dir / "doing")) == 2 and (tmp_path / "log").exists(), 30)
    finally:
        go.touch()
        assert [each.wait(60) for each in runners] == [0, 0]
    assert len(names(tasklist_dir, "done")) == 21 and not (tasklist_dir / "waiting").exists()


def test_it_is_let_go_at_once(tasklist_dir: Path) -> None:
    """A runner that has seen that a task is waited for need not look again when it has ended it."""
    tasks = opened(tasklist_dir)
    a = tasks.schedule(defer(abs, -1), name="a")
    tasks.schedule(defer(abs, -2), name="x", after=a)
    folder, told = tasks._folder, []            # type: TaskFolder, list[ev.Event]
    releaser = Releaser(TaskFolder(folder.fs, replace(folder.settings, beat=1e5)), told.append)
    try:
        releaser.look()
        wait_for(lambda: releaser._awaited == {a} and releaser._sweep_after > 0)
        os.rename(tasklist_dir / "todo" / f"{a}.pkl", tasklist_dir / "done" / f"{a}.t1-abcd.pkl")
        releaser.note(Name(a), layout.DONE)
        wait_for(lambda: names(tasklist_dir, "todo") == ["x"])
        wait_for(lambda: told == [ev.MoreWork()])
    finally:
        releaser.close(fenced=True)


POINTS = [("rename", "done/"), ("unlink", layout.GATES), ("rmdir", layout.GATES), ("rename", "todo/"),
          ("rmdir", layout.WAITING), ("unlink", layout.AFTER), ("rmdir", layout.AFTER)]


def die(operation: str, arguments: tuple[object, ...]) -> None:
    """RUNFORREST_FSIO_HOOK: SIGKILL at the operation that the environment names, just before it or just after it."""
    wanted, where, late = os.environ["DIE_AT"].split(",")
    if getattr(die, "armed", False) or (operation == wanted and str(arguments[-1]).startswith(where)):
        if late == "False" or getattr(die, "armed", False):
            os.kill(os.getpid(), signal.SIGKILL)
        die.armed = True                                    # type: ignore[attr-defined]  # at the next one


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("point", POINTS, ids=" ".join)
def test_a_runner_that_is_killed_over_it(tasklist_dir: Path, point: tuple[str, str], late: bool, tried: Tried) -> None:
    """Between the end of a task and the release of what waits for it: the next runner finds it."""
    tasks = opened(tasklist_dir)
    a = tasks.schedule(defer(abs, -1), name="a")
    x = tasks.schedule(defer(abs, -2), name="x", after=a)
    tasks.schedule(defer(abs, -3), name="y", after=[a, x])
    ended = runforrest("run", "-n", "1", "--quiet", tasklist_dir, RUNFORREST_FSIO_HOOK="tests.tasklist.test_after:die",
                       DIE_AT=f"{point[0]},{point[1]},{late}")
    assert ended.returncode == -signal.SIGKILL, f"never came to {point}: {ended.stderr}"
    assert runforrest("run", "-n", "1", "--quiet", tasklist_dir).returncode == 0
    assert names(tasklist_dir, "done") == ["a", "x", "y"] and not (tasklist_dir / "waiting").exists()
    tried("real runners killed while they let tasks go", 1)


# -- looking ---------------------------------------------------------------------------------------


def test_status_show_ls_cancel(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir)
    a = tasks.schedule(defer(abs, -1), name="a")
    x = tasks.schedule(defer(abs, -2), name="x", after=a)
    tasks.schedule(defer(abs, -2), name="y", after=x, group="late")
    assert "waiting 2  todo 1" in runforrest("status", tasklist_dir).stdout
    assert json.loads(runforrest("status", tasklist_dir, "--json").stdout)["waiting"] == 2
    shown = runforrest("show", tasklist_dir, "x").stdout
    assert f"waits for   {a} (todo)" in shown and "state       waiting" in shown
    found = json.loads(runforrest("show", tasklist_dir, "y", "--json").stdout)
    assert found["waits_for"] == {x: "waiting"} and found["envelope"]["group"] == "late"
    assert len(runforrest("ls", tasklist_dir, "waiting").stdout.splitlines()) == 2
    assert runforrest("cancel", tasklist_dir, "x").returncode == 0
    assert names(tasklist_dir, "fail") == ["x", "y"] and names(tasklist_dir, "todo") == ["a"]
    assert "waiting" not in runforrest("status", tasklist_dir).stdout


# -- lists of others -------------------------------------------------------------------------------


def test_a_signed_list(tasklist_dir: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    tasks = opened(tasklist_dir, key_file=key)
    bad = tasks.schedule(defer(fails), name="bad")
    tasks.schedule(defer(abs, -1), name="x", after=bad)
    good = tasks.schedule(defer(abs, -2), name="good")
    last = tasks.schedule(defer(abs, -3), name="last", after=good)
    path = next((tasklist_dir / "waiting").rglob(f"{last}.pkl"))
    assert b'"after":{"gate"' in path.read_bytes().rpartition(b'"hmac"')[0], "it is signed with the rest"
    ended = {task.scheduled.name: task for task in tasks.run(2)}
    assert ended["last"].returnvalue == 3 and isinstance(ended["x"].errorvalue, DependencyFailed)


def test_a_list_of_a_group(tasklist_dir: Path) -> None:
    tasks = opened(tasklist_dir, group=True)
    a = tasks.schedule(defer(abs, -1), group="prep")
    tasks.schedule(defer(abs, -2), after=[a, "prep"])
    folders = [path for path in tasklist_dir.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o7777 for path in folders} == {0o2770} and len(folders) > 12
    assert sorted(task.returnvalue for task in tasks.run(1)) == [1, 2]


# -- what it costs ---------------------------------------------------------------------------------

COUNT = """
import sys, tests.tasklist.test_after as t
from runforrest import TaskList
from runforrest.runner import Options, Runner
from runforrest.folder.transitions import TaskFolder
tasks = TaskList(sys.argv[1], exist_ok=True, pre_clean=False)
calls = []
tasks._fs.hook = lambda operation, arguments: calls.append((operation, *arguments))
Runner(tasks._folder, Options(2, isolation="reuse")).run()
for call in calls:
    print(call[0], *[a for a in call[1:] if isinstance(a, str)])
"""


@pytest.mark.parametrize("gated", [False, True])
def test_what_waits_for_nobody_costs_what_it_did(tasklist_dir: Path, gated: bool, tried: Tried) -> None:
    """A runner makes two renames for a task, and nothing else; also where others wait for others."""
    tasks = opened(tasklist_dir)
    ids = [tasks.schedule(defer(abs, -1)) for _ in range(200)]
    if gated:
        first = tasks.schedule(defer(abs, -1), priority=-1)
        tasks.schedule(defer(abs, -1), after=first)
    done = subprocess.run([sys.executable, "-c", COUNT, str(tasklist_dir)], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for id in ids:
        operations = [line.split()[0] for line in lines if id in line and not line.startswith("open ")]
        assert operations == ["rename", "rename"], id
    opens = sum(line.startswith(f"open {layout.TODO}/") for line in lines)
    assert opens <= LOOK_AT, "before anything is run, the first ones are looked at"
    per_list = [line for line in lines if layout.GATES in line or layout.AFTER in line]
    beats = sum(line.startswith(f"rename {layout.HB}/") for line in lines)
    assert len(per_list) < 40 + 10 * beats and (gated or not per_list)
    tried("tasks without dependencies whose file operations were counted", len(ids))

"""A folder in trouble for a while: the runner waits, says so, and goes on; no result is dropped.

The faults come in through the one seam to the filesystem, in the runner, its guards and its children alike;
`test_full_disk` has the same with a real small disk, `tests/hosts` with real servers that stop.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from runforrest import TaskList, defer
from runforrest.folder.fsio import HOOK_VARIABLE
from tests.helpers import has_ended, wait_for
from tests.runner.faults import VARIABLE, WRITES
from tests.runner.support import a_runner, all_gone, counts, lines, with_short_lease
from tests.tasks import crash_when_told, log_and_sleep, log_and_wait

HOOK = "tests.runner.faults:hook"
LOST_REPLY = "tests.runner.faults:lost_reply"
TASKS = 40
FAULTS = {
    "disk full": (errno.ENOSPC, "create write append mkdir"),
    "quota": (errno.EDQUOT, "create write append mkdir"),
    "read-only": (errno.EROFS, WRITES),
    "permission lost": (errno.EACCES, WRITES + " listdir exists"),
    "stale handle": (errno.ESTALE, WRITES + " listdir exists"),
    "I/O error": (errno.EIO, WRITES + " listdir exists"),
    "not connected": (errno.ENOTCONN, WRITES + " listdir exists"),
    "timed out": (errno.ETIMEDOUT, WRITES + " listdir exists"),
}


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "fault"))
    return tmp_path / "fault"


def begin(fault: Path, text: str) -> None:
    """From one moment to the next."""
    fault.with_suffix(".new").write_text(text)
    os.rename(fault.with_suffix(".new"), fault)


@pytest.mark.parametrize(("code", "waits"), [
    (errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, True), (errno.ESTALE, True), (errno.EROFS, False),
    (errno.EACCES, False)])
@pytest.mark.parametrize("operations", ["mkdir", "create", "listdir"])
def test_a_fault_at_the_start(tasklist_dir: Path, fault: Path, code: int, waits: bool, operations: str) -> None:
    """What may pass is waited for; a folder that is read-only or forbidden is the wrong one."""
    TaskList(tasklist_dir).schedule(defer(abs, -1))
    begin(fault, f"{code} {operations}")
    with a_runner(tasklist_dir, 1, hook=HOOK) as runner:
        assert runner.stdout
        if waits:
            while "in trouble" not in (line := runner.stdout.readline()):
                assert line, "the runner has given up"
            assert os.strerror(code) in line
            fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert ("well again" in text, "left: done" in text, runner.returncode) == (waits, waits, 0 if waits else 1)
    assert counts(tasklist_dir)["done"] == waits


@pytest.mark.parametrize("isolation", ["process", "reuse"])
@pytest.mark.parametrize("what", [what if what == "disk full" else pytest.param(what, marks=pytest.mark.slow)
                                  for what in FAULTS])
def test_a_fault_that_passes_costs_no_result(tasklist_dir: Path, tmp_path: Path, fault: Path, what: str,
                                             isolation: str, tried: Callable[[str, int], None]) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    with_short_lease(tasklist_dir, 0.5, 100)
    for number in range(TASKS):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.3))
    code, operations = FAULTS[what]
    with a_runner(tasklist_dir, 2, isolation, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) >= 5)
        begin(fault, f"{code} {operations}")
        time.sleep(1.5)                     # nothing to wait for: the point is that little happens
        begun = len(lines(log))
        time.sleep(1.0)
        assert len(lines(log)) <= begun + 1, "new tasks are started in a folder that is in trouble"
        assert runner.poll() is None, "the runner has given up"
        enough.touch()
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0 and "left: done" in text
    assert "in trouble" in text and os.strerror(code) in text and "well again" in text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": TASKS, "fail": 0}
    assert Counter(t.returnvalue for t in tasks.done_tasks()) == Counter(range(TASKS))
    executions = Counter(int(line.split()[0]) for line in lines(log))
    assert set(executions.values()) == {1}, "a result was dropped and made again"
    tried("faults of a folder survived", 1)


def test_a_server_that_hangs_for_longer_than_the_lease(tasklist_dir: Path, tmp_path: Path, fault: Path) -> None:
    """Every file operation hangs, the heartbeat and the loop's own: the tasks are dead before the lease is over."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    with_short_lease(tasklist_dir, 2.0, 8)
    for number in range(4):
        tasks.schedule(defer(log_and_sleep, str(log), number, 600.0))
    with a_runner(tasklist_dir, 2, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        children = [psutil.Process(int(line.split()[1])) for line in lines(log)]
        hung = time.monotonic()
        begin(fault, f"hang {WRITES} listdir exists")
        wait_for(lambda: all_gone(children), 30, "the tasks of a runner that can't reach its folder end")
        took = time.monotonic() - hung
        fault.unlink()
        wait_for(lambda: len(lines(log)) == 4, 30, "it goes on, as nobody has taken over")
        runner.terminate()
        text, _ = runner.communicate(timeout=30)
    print(f"ended {took:.2f} s after the server hung, of a lease of 16 s")
    assert took < 16.0, "another runner may run them by now"       # not speed: the promise itself
    assert "could not be reached for 12 s: its tasks are ended" in text and "going on" in text
    assert counts(tasklist_dir) == {"todo": 4, "doing": 0, "done": 0, "fail": 0}
    assert all(t.attempts == [] for t in tasks.todo_tasks()), "uncounted"


@pytest.mark.parametrize("leaves", [False, True])
def test_a_claim_of_which_the_runner_is_not_told(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 leaves: bool) -> None:
    """It has the task, and does not know: it looks when there is nothing else to do, and when it leaves."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    monkeypatch.setenv(VARIABLE, str(tasklist_dir))
    for number in range(3):
        tasks.schedule(defer(log_and_sleep, str(log), number, 600.0 if leaves and number else 0.05))
    with a_runner(tasklist_dir, 1, hook=LOST_REPLY) as runner:
        if leaves:
            wait_for(lambda: len(lines(log)) == 1)
            assert counts(tasklist_dir)["doing"] == 2
            runner.terminate()
        text, _ = runner.communicate(timeout=60)
    assert "in trouble" in text and "well again" in text
    expected = {"todo": 0, "doing": 0, "done": 0, "fail": 0, "todo" if leaves else "done": 3}
    assert counts(tasklist_dir) == expected, text
    assert all(task.attempts == [] for task in tasks.todo_tasks())
    assert sorted(line.split()[0] for line in lines(log)) == (["1"] if leaves else ["0", "1", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_file_that_the_disk_has_lost(tasklist_dir: Path, tmp_path: Path, fault: Path, isolation: str) -> None:
    """All others are run meanwhile; after half a minute it fails and says why; once mended, it can be tried again."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    ids = [tasks.schedule(defer(log_and_sleep, str(log), number, 0.05)) for number in range(4)]
    begin(fault, " ".join([f"{errno.EIO}", *(f"{what}:doing/*/{ids[1]}" for what in ("open", "append", "fsync"))]))
    with a_runner(tasklist_dir, 2, isolation, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) == 3, 10, "the others do not wait for it")
        text, _ = runner.communicate(timeout=100)
    assert "left: done" in text, text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 3, "fail": 1}
    [file] = (tasklist_dir / "fail").iterdir()
    [attempt] = next(tasks.fail_tasks()).attempts
    assert file.name.startswith(f"{ids[1]}.") and attempt.outcome == "unloadable"
    assert attempt.message and "Input/output error" in attempt.message and "6 times" in attempt.message
    fault.unlink()
    file.rename(tasklist_dir / "todo" / file.name)
    with a_runner(tasklist_dir, 1, isolation) as runner:
        runner.communicate(timeout=60)
    assert sorted(task.returnvalue for task in tasks.done_tasks()) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_result_outlasts_a_fault_that_is_longer_than_the_lease(tasklist_dir: Path, tmp_path: Path, fault: Path,
                                                                 isolation: str, tried: Callable[[str, int], None]
                                                                 ) -> None:
    """What runs is ended in time; what has ended, well or not, waits in memory and is published when that is possible.
    """
    tasks, log, told, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "told", tmp_path / "enough"
    with_short_lease(tasklist_dir, 1.0, 8)
    for number in range(2):
        tasks.schedule(defer(log_and_wait, str(log), number, str(told)))
    tasks.schedule(defer(log_and_wait, str(log), 2, str(enough)))
    tasks.schedule(defer(crash_when_told, str(told)), crash_limit=2)
    with a_runner(tasklist_dir, 4, isolation, hook=HOOK) as runner:
        assert runner.stdout
        wait_for(lambda: len(lines(log)) == 3 and counts(tasklist_dir)["doing"] == 4)
        begin(fault, f"{errno.EROFS} {WRITES}")
        told.touch()
        said = [runner.stdout.readline()]
        while "its tasks are ended" not in said[-1]:
            assert said[-1], "the runner has left"
            said.append(runner.stdout.readline())
        wait_for(lambda: all(map(has_ended, _pids(log, 2))))
        time.sleep(0.5)                     # nothing to wait for: more orders to end come in meanwhile
        enough.touch()
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert "left: done" in text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 3, "fail": 1}
    executions = Counter(int(line.split()[0]) for line in lines(log))
    assert executions == {0: 1, 1: 1, 2: 2}, "a result was dropped and made again, or nothing was ended"
    (crashed,) = tasks.fail_tasks()
    assert [a.outcome for a in crashed.attempts] == ["crashed", "crashed"]
    tried("results that outlasted a lease", 3)


def _pids(log: Path, number: int) -> list[int]:
    return [int(line.split()[1]) for line in lines(log) if line.startswith(f"{number} ")]


@pytest.mark.slow
@pytest.mark.parametrize("ended", [False, True])
def test_a_runner_that_can_not_publish_stays_until_it_can(tasklist_dir: Path, tmp_path: Path, fault: Path,
                                                          ended: bool) -> None:
    """done/ can't be written to, all else can: nothing new is started, it is said once, and the result is published;
    also by a runner that was asked to stop.
    """
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(30):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.4))
    with a_runner(tasklist_dir, 2, hook=HOOK) as runner:
        assert runner.stdout
        wait_for(lambda: len(lines(log)) >= 3)
        begin(fault, f"{errno.EACCES} rename:done/")
        said = [runner.stdout.readline()]
        while "in trouble" not in said[-1]:
            said.append(runner.stdout.readline())
        time.sleep(1.0)                     # what was under way when the first failed ends, and nothing more is claimed
        wait_for(lambda: len(lines(log)) == sum(counts(tasklist_dir).values()) - counts(tasklist_dir)["todo"])
        begun = len(lines(log))
        if ended:
            runner.send_signal(signal.SIGINT)
        time.sleep(3.0)                     # nothing to wait for: it neither starts anything nor leaves
        assert runner.poll() is None and len(lines(log)) == begun
        enough.touch()
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    whole = "".join(said) + text
    assert whole.count("in trouble") == whole.count("well again") == 1, whole
    found = counts(tasklist_dir)
    assert found["doing"] == found["fail"] == 0 and found["done"] == (begun if ended else 30)
    assert set(Counter(line.split()[0] for line in lines(log)).values()) == {1}


def test_who_insists_leaves_although_it_can_not_publish(tasklist_dir: Path, tmp_path: Path, fault: Path) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(log_and_sleep, str(log), 0, 0.2))
    begin(fault, f"{errno.EACCES} rename:done/")
    with a_runner(tasklist_dir, 1, hook=HOOK) as runner:
        assert runner.stdout
        while "in trouble" not in (said := runner.stdout.readline()):
            assert said
        runner.send_signal(signal.SIGINT)
        wait_for(lambda: "will be finished" in runner.stdout.readline())  # type: ignore[union-attr]
        runner.send_signal(signal.SIGINT)
        text, _ = runner.communicate(timeout=30)
    assert "stays in doing/ for the next runner" in text
    fault.unlink()
    assert [t.returnvalue for t in tasks.run(1)] == [0] and len(lines(log)) == 1


def test_heartbeats_that_fail_are_said_once_and_nothing_new_is_started(tasklist_dir: Path, tmp_path: Path,
                                                                       fault: Path) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    with_short_lease(tasklist_dir, 0.25, 100)
    for number in range(40):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.4))
    with a_runner(tasklist_dir, 2, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) >= 3)
        begin(fault, f"{errno.EACCES} rename:.runforrest/hb/")
        time.sleep(1.5)
        begun = len(lines(log))
        time.sleep(3.0)                     # nothing to wait for
        assert len(lines(log)) == begun < 40
        enough.touch()
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert text.count("in trouble") == text.count("well again") == 1, text
    assert counts(tasklist_dir)["done"] == 40


@pytest.mark.parametrize("trouble", [f"{errno.ENOSPC} create write append mkdir",
                                     f"{errno.ENOENT} create:.runforrest/tmp/"])  # others tidy it away
@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_guards_that_come_up_in_a_folder_in_trouble_wait(tasklist_dir: Path, tmp_path: Path, fault: Path,
                                                         isolation: str, trouble: str,
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(6):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough)))
    with a_runner(tasklist_dir, 2, isolation, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        (server,) = psutil.Process(runner.pid).children()
        guards = server.children()
        before = set(server.children(recursive=True))
        begin(fault, trouble)
        for guard in guards:
            guard.kill()
        others = wait_for(lambda: len(found := set(server.children(recursive=True))) == 2 and not found & before
                          and found)
        time.sleep(2.0)                     # nothing to wait for
        assert set(server.children(recursive=True)) == others, "they die and are replaced, again and again"
        enough.touch()
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert "left: done" in text and counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 6, "fail": 0}
    assert "Traceback" not in capfd.readouterr().err


@contextmanager
def mounted(place: Path, source: Path) -> Iterator[None]:
    """The same folder at a second place, at once; at the end its mount point is empty again."""
    place.mkdir(exist_ok=True)
    bound = subprocess.run(["mount", "--bind", source, place], capture_output=True, text=True)
    if bound.returncode:
        pytest.skip(f"nothing can be mounted here: {bound.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_list_that_is_unmounted_for_a_while(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """Its mount point is there all the time."""
    tasks, log, told, place = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "told", tmp_path / "mounted"
    with_short_lease(tasklist_dir, 0.5, 40)
    for number in range(6):
        tasks.schedule(defer(log_and_wait, str(log), number, str(told)))
    with ExitStack() as second:
        with mounted(place, tasklist_dir):
            runner = second.enter_context(a_runner(place, 2, isolation))
            wait_for(lambda: len(lines(log)) == 2 and counts(tasklist_dir)["doing"] == 2)
        told.touch()
        time.sleep(3.0)                     # nothing to wait for: both end meanwhile
        assert runner.poll() is None and len(lines(log)) == 2 and os.listdir(place) == []
        with mounted(place, tasklist_dir):
            text, _ = runner.communicate(timeout=60)
    assert "left: done" in text and text.count("in trouble") == text.count("well again") == 1, text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 6, "fail": 0}
    assert Counter(line.split()[0] for line in lines(log)) == Counter(map(str, range(6)))


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_folder_that_is_away_for_a_while(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """Moved by a person, or an automount that has expired: results wait, and nothing is run again."""
    tasks, log, told = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "told"
    with_short_lease(tasklist_dir, 0.5, 40)
    for number in range(9):
        tasks.schedule(defer(log_and_wait, str(log), number, str(told)))
    tasks.schedule(defer(crash_when_told, str(told)), crash_limit=1, priority=1)
    with a_runner(tasklist_dir, 3, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2 and counts(tasklist_dir)["doing"] == 3)
        tasklist_dir.rename(tmp_path / "away")
        told.touch()
        time.sleep(4.0)                     # nothing to wait for: all three end meanwhile
        assert runner.poll() is None and len(lines(log)) == 2, "new tasks are started"
        (tmp_path / "away").rename(tasklist_dir)
        text, _ = runner.communicate(timeout=60)
    assert "left: done" in text and text.count("in trouble") == text.count("well again") == 1, text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 9, "fail": 1}
    assert Counter(line.split()[0] for line in lines(log)) == Counter(map(str, range(9)))
    assert [a.outcome for a in next(tasks.fail_tasks()).attempts] == ["crashed"]


@pytest.mark.parametrize("removed", [True, False])
def test_a_folder_that_does_not_come_back_ends_its_runners(tasklist_dir: Path, tmp_path: Path, removed: bool) -> None:
    """One that was removed at once; one that was moved away when a lease is nearly over."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    with_short_lease(tasklist_dir, 0.5, 10000 if removed else 12)
    tasks.schedule(defer(log_and_sleep, str(log), 0, 600.0))
    with a_runner(tasklist_dir, 1) as runner:
        wait_for(lambda: len(lines(log)) == 1)
        below = psutil.Process(runner.pid).children(recursive=True)
        if removed:
            shutil.rmtree(tasklist_dir)
        else:
            tasklist_dir.rename(tmp_path / "away")
        text, _ = runner.communicate(timeout=60)
    assert "left: fenced" in text and "the list's folder was removed" in text and all_gone(below)
    assert not tasklist_dir.exists(), "nothing is made anew"


def test_a_runner_whose_own_folder_was_removed_leaves(tasklist_dir: Path, tmp_path: Path) -> None:
    """By a person: its heart still beats, but it could claim nothing for ever."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    with_short_lease(tasklist_dir, 0.5, 8)
    for number in range(2):
        tasks.schedule(defer(log_and_sleep, str(log), number, 600.0))
    with a_runner(tasklist_dir, 1) as runner:
        wait_for(lambda: len(lines(log)) == 1)
        below = psutil.Process(runner.pid).children(recursive=True)
        shutil.rmtree(tasklist_dir / "doing")
        text, _ = runner.communicate(timeout=60)
    assert "left: fenced" in text and "its folder in doing/ was removed" in text and all_gone(below)
    assert not (tasklist_dir / "doing").exists() and len(list((tasklist_dir / "todo").iterdir())) == 1


def test_guards_that_can_not_begin(tasklist_dir: Path, fault: Path) -> None:
    """Each ends over what nobody has foreseen: the runner must not try for ever, and the task is not to blame."""
    TaskList(tasklist_dir).schedule(defer(abs, -1))
    begin(fault, f"{errno.ENAMETOOLONG} create:.runforrest/tmp/*.slot")
    ended = subprocess.run([sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "-n", "2"], timeout=60,
                           env={**os.environ, HOOK_VARIABLE: HOOK}, capture_output=True, text=True)
    assert ended.returncode == 3 and os.strerror(errno.ENAMETOOLONG) in ended.stderr
    assert "Error: no process for slot" in ended.stderr.splitlines()[-1], ended.stderr
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 0}
    fault.unlink()
    with a_runner(tasklist_dir, 2, hook=HOOK) as runner:
        assert runner.wait(60) == 0
    assert counts(tasklist_dir)["done"] == 1

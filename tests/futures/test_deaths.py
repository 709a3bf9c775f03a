"""Whatever ends, or is done to the list: no result is lost, and no future waits for what will not come."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import pytest

from runforrest import TaskList
from runforrest.errors import Cancelled, FolderError, Lost, Stopped
from runforrest.futures import places
from tests.cli.programs import runforrest
from tests.futures import work
from tests.futures.support import SECONDS, an_executor, each_once, no_runner_left, run, runners, started
from tests.helpers import small_filesystem, wait_for
from tests.runner.support import counts
from tests.runner.test_full_disk import fill

SUBMIT = """
import sys
from runforrest.futures import Executor
from tests.futures import work
executor = Executor(sys.argv[1], 2, durability="none")
futures = [executor.submit(work.trace, sys.argv[2], n, float(sys.argv[4])) for n in range(int(sys.argv[3]))]
print(sum(future.result() for future in futures))
"""
ATTACH = """
import sys
from runforrest.futures import Executor
found = list(Executor(sys.argv[1], 2).attach())
print(len(found), sorted(future.result() for future in found) == list(range(len(found))))
"""


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    (tasklist_dir.parent / "traces").mkdir()
    return tasklist_dir.parent


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while it submits", "while it waits"])
def test_a_submitter_is_killed(tasklist_dir: Path, folder: Path, tried: Callable[[str, int], None], when: str) -> None:
    number = 500
    with started(SUBMIT, tasklist_dir, folder / "traces", number, 0.04) as program:
        wait_for(lambda: len(os.listdir(folder / "traces")) > number // 20, SECONDS)
        if when == "while it waits":
            wait_for(lambda: sum(counts(tasklist_dir).values()) == number, SECONDS)
        program.kill()
        program.wait()
    done = counts(tasklist_dir)["done"]
    found, each = run(ATTACH, tasklist_dir).stdout.split()
    submitted = int(found)
    assert each == "True" and done < submitted <= number
    assert submitted == number or when == "while it submits"
    each_once(folder / "traces", submitted)
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": submitted, "fail": 0}
    no_runner_left(tasklist_dir)
    tried("calls of programs that were killed in their midst, each of which has run once", submitted)


@pytest.mark.slow
def test_its_runner_finishes_without_it(tasklist_dir: Path, folder: Path) -> None:
    with started(SUBMIT, tasklist_dir, folder / "traces", 60, 0.05) as program:
        wait_for(lambda: len(os.listdir(folder / "traces")) > 5, SECONDS)
        submitted = wait_for(lambda: sum(counts(tasklist_dir).values()) == 60, SECONDS)
        program.kill()
    assert submitted
    no_runner_left(tasklist_dir)
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 60, "fail": 0}
    each_once(folder / "traces", 60)


@pytest.mark.slow
def test_runners_are_killed(tasklist_dir: Path, folder: Path, tried: Callable[[str, int], None]) -> None:
    number, killed = 200, 0
    with an_executor(tasklist_dir, 2, durability="none") as executor:
        call = executor.options(crash_limit=50)
        found = [call.submit(work.trace, str(folder / "traces"), n, 0.03) for n in range(number)]
        for share in range(10, 180, 24):            # more often than a runner is started that does nothing
            wait_for(lambda share=share: sum(future.done() for future in found) > share, SECONDS)  # type: ignore[misc]
            for runner in runners(tasklist_dir):
                runner.kill()
                killed += 1
        assert [future.result(SECONDS) for future in found] == list(range(number))
    assert killed >= 7
    tried("calls that came to their end although their runners were killed", number)
    tried("runners of executors that were killed", killed)


@pytest.mark.slow
def test_a_runner_that_is_stopped(tasklist_dir: Path, folder: Path) -> None:
    with an_executor(tasklist_dir, 1, durability="none") as executor:
        first = executor.submit(work.wait_until, str(folder / "go"), str(folder / "begun"))
        second = executor.submit(work.square, 3)
        wait_for((folder / "begun").exists, SECONDS)
        assert runforrest("stop", tasklist_dir, "--now").returncode == 0
        for future in (first, second):
            with pytest.raises(Stopped, match=r"no other is at work: task .* waits in"):
                future.result(SECONDS)
        assert counts(tasklist_dir)["todo"] == 2
        (folder / "go").touch()
        (folder / "begun").unlink()
        assert executor.submit(work.square, 4).result(SECONDS) == 16        # which starts one again …
        assert executor.future(second.id).result(SECONDS) == 9              # … that runs what is there
        assert executor.future(first.id).result(SECONDS) == "seen"


def test_a_runner_that_can_not_work(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with an_executor(tasklist_dir, 1) as executor:
        future = executor.submit(abs, 1)
        with pytest.raises(futures.BrokenExecutor, match=r"could not be started: .*No such file"):
            future.result(SECONDS)
    assert counts(tasklist_dir)["todo"] == 1


def test_a_runner_that_is_refused(tasklist_dir: Path) -> None:
    with an_executor(tasklist_dir, 1) as executor:
        (tasklist_dir / "todo").chmod(0o777)
        with pytest.raises(futures.BrokenExecutor, match="tasks are code"):
            executor.submit(abs, 1).result(SECONDS)
        (tasklist_dir / "todo").chmod(0o700)
        assert executor.submit(abs, -2).result(SECONDS) == 2


@pytest.mark.slow
def test_a_task_that_is_removed(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SEARCH_SECONDS", 0.05)
    with an_executor(tasklist_dir, 0) as executor:
        removed, kept = executor.submit(abs, -1), executor.submit(abs, -2)
        (tasklist_dir / "todo" / f"{removed.id}.pkl").unlink()
        with pytest.raises(Lost, match="was removed before it had ended"):
            removed.result(SECONDS)
        assert not kept.done() and kept.cancel()


@pytest.mark.parametrize("how", ["clean", "rmtree"])
def test_a_list_that_is_cleaned(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(places, "SEARCH_SECONDS", 0.05)
    with an_executor(tasklist_dir, 0) as executor:
        found = [executor.submit(abs, n) for n in range(3)]
        if how == "clean":
            assert runforrest("clean", tasklist_dir, "--yes", "--todo").returncode == 0
        else:
            shutil.rmtree(tasklist_dir)
        for future in found:
            with pytest.raises((Lost, FolderError), match="removed before"):
                future.result(SECONDS)


@pytest.mark.slow
def test_a_list_that_is_removed_is_made_anew(tasklist_dir: Path, folder: Path) -> None:
    """As with `TaskList.schedule`; the runner that was at work is given up, and another one started."""
    with an_executor(tasklist_dir, 1, durability="none") as executor:
        first = executor.submit(work.wait_until, str(folder / "never"), str(folder / "begun"))
        wait_for((folder / "begun").exists, SECONDS)
        shutil.rmtree(tasklist_dir)
        with pytest.raises(FolderError, match="was removed before"):
            first.result(SECONDS)
        assert executor.submit(work.square, 3).result(SECONDS) == 9


@pytest.mark.slow
def test_a_person_cancels(tasklist_dir: Path, folder: Path) -> None:
    with an_executor(tasklist_dir, 1, durability="none") as executor:
        running = executor.submit(work.wait_until, str(folder / "go"))
        waiting = executor.submit(abs, 1)
        wait_for(running.running, SECONDS)
        assert runforrest("cancel", tasklist_dir, running.id, waiting.id).returncode == 0
        with pytest.raises(Cancelled):
            running.result(SECONDS)
        with pytest.raises(futures.CancelledError):
            waiting.result(SECONDS)


@pytest.mark.slow
def test_a_person_tries_again(tasklist_dir: Path, folder: Path) -> None:
    with an_executor(tasklist_dir, 1, durability="none") as executor:
        failed = executor.submit(work.fails_without, str(folder / "data"))
        assert isinstance(failed.exception(SECONDS), FileNotFoundError)
        (folder / "data").touch()
        assert runforrest("retry", tasklist_dir, failed.id).returncode == 0
        again = executor.future(failed.id)
        assert again.result(SECONDS) == "there" and isinstance(failed.exception(), FileNotFoundError)


@pytest.mark.slow
def test_a_stopped_program_does_not_hold_up_its_runner(tasklist_dir: Path, folder: Path) -> None:
    """It does not read what the runner tells it, which is more than a pipe holds."""
    number = 2000
    TaskList(tasklist_dir, durability="none")
    assert runforrest("pause", tasklist_dir).returncode == 0
    with started(SUBMIT, tasklist_dir, folder / "traces", number, 0) as program:
        wait_for(lambda: counts(tasklist_dir)["todo"] == number, SECONDS)
        program.send_signal(signal.SIGSTOP)
        assert runforrest("resume", tasklist_dir).returncode == 0
        wait_for(lambda: counts(tasklist_dir)["done"] == number, SECONDS)
        program.send_signal(signal.SIGCONT)
        assert program.wait(SECONDS) == 0
    no_runner_left(tasklist_dir)


@pytest.mark.slow
def test_a_full_disk_is_told_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing seems to happen then, so the program says why."""
    with small_filesystem(tmp_path, "size=2m") as place, \
            an_executor(place / "tasks", 1, durability="none") as executor:
        future = executor.submit(work.wait_and_make_much, str(tmp_path / "go"), str(tmp_path / "begun"))
        wait_for((tmp_path / "begun").exists, SECONDS)
        fill(place / "ballast")
        with pytest.raises(OSError, match="No space left"):
            executor.submit(abs, 1)
        (tmp_path / "go").touch()
        wait_for(lambda: "the folder is in trouble: No space left on device" in caplog.text, SECONDS)
        assert not future.done()
        (place / "ballast").unlink()
        assert len(future.result(SECONDS)) == 200_000
        assert executor.submit(abs, -2).result(SECONDS) == 2
        executor.shutdown()
        no_runner_left(place / "tasks")


INTERRUPTED = """
import sys
from runforrest.futures import Executor
from tests.futures import work
with Executor(sys.argv[1], 1, durability="none") as executor:
    try:
        executor.submit(work.wait_until, sys.argv[2], sys.argv[3]).result()
    except KeyboardInterrupt:
        open(sys.argv[4], "x").close()
        raise
"""


@pytest.mark.slow
def test_ctrl_c(tasklist_dir: Path, folder: Path) -> None:
    """The first ends what the program does, which then waits for its calls, and the second ends that."""
    with started(INTERRUPTED, tasklist_dir, folder / "go", folder / "begun", folder / "heard") as program:
        wait_for((folder / "begun").exists, SECONDS)
        program.send_signal(signal.SIGINT)
        wait_for((folder / "heard").exists, SECONDS)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1)
        program.send_signal(signal.SIGINT)
        assert program.wait(SECONDS) == -signal.SIGINT
    (folder / "go").touch()
    no_runner_left(tasklist_dir)
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 0}

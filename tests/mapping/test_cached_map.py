"""`cached_map`: results in order, kept; what is missing or changed is computed, by any engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, errors
from runforrest.engines import executor
from runforrest.mapping import MapFailed, cached_map
from tests.helpers import files, small_filesystem, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
Tried = Callable[[str, int], None]


def noted(log: str, factor: int = 2, bad: tuple[int, ...] = ()) -> Callable[[int], int]:
    """A closure that writes down what it was called with."""
    def work(x: int) -> int:
        with open(log, "a") as file:
            file.write(f"{x}\n")
        if os.path.exists(f"{log}.bad{x}"):
            raise ValueError(f"no {x}")
        return x * factor
    return work


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def calls(log: str) -> list[int]:
    """What was called since the last look, sorted."""
    found = sorted(int(line) for line in Path(log).read_text().splitlines()) if os.path.exists(log) else []
    Path(log).write_text("")
    return found


def test_results_in_order_and_kept(tasklist_dir: Path, log: str) -> None:
    work = noted(log)
    assert cached_map(work, range(6), tasklist_dir, nprocesses=2) == [0, 2, 4, 6, 8, 10]
    assert calls(log) == list(range(6))
    assert cached_map(work, range(6), tasklist_dir) == [0, 2, 4, 6, 8, 10] and calls(log) == []
    assert cached_map(work, (1, 1), str(tasklist_dir)) == [2, 2] and calls(log) == [1]
    assert cached_map(work, [], tasklist_dir) == []
    assert cached_map(work, iter(range(6)), tasklist_dir)[:2] == [0, 2] and calls(log) == [0]


def test_what_changed_is_computed_again(tasklist_dir: Path, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    cached_map(noted(log), range(4), tasklist_dir)
    calls(log)
    assert cached_map(noted(log), [0, 9, 2, 3, 4], tasklist_dir) == [0, 18, 4, 6, 8] and calls(log) == [4, 9]
    assert "the items changed, so 1 results are computed again" in capsys.readouterr().err
    assert cached_map(noted(log, 3), range(3), tasklist_dir) == [0, 3, 6] and calls(log) == [0, 1, 2]
    assert "the function changed, so 3 results are computed again" in capsys.readouterr().err
    assert cached_map(noted(log), [0, 1, 2, 3, 4], tasklist_dir)[3:] == [6, 8] and calls(log) == [0, 1, 2]


@pytest.mark.parametrize("wrong, error", [({"timeot": 1}, "unexpected keyword argument 'timeot'"),
                                          ({"name": "n"}, "unexpected keyword argument 'name'"),
                                          ({"nprocesses": -1}, "nprocesses must be"), ({"fn": 3}, "takes a function"),
                                          ({"isolation": "none"}, "isolation must be"), ({"items": 5}, "not iterable")])
def test_what_cannot_be_meant_leaves_nothing(tasklist_dir: Path, wrong: dict[str, Any], error: str) -> None:
    with pytest.raises((errors.InvalidArgument, TypeError), match=error):
        cached_map(**{"fn": str, "items": [1], "path": tasklist_dir, **wrong})
    assert not tasklist_dir.exists()
    cached_map(str, [1], tasklist_dir)
    with pytest.raises((errors.InvalidArgument, TypeError), match=error):
        cached_map(**{"fn": str, "items": [1], "path": tasklist_dir, **wrong})


def test_failures_are_tried_again(tasklist_dir: Path, log: str) -> None:
    work = noted(log)
    for bad in (1, 3):
        Path(f"{log}.bad{bad}").touch()
    with pytest.raises(MapFailed, match=r"2 of 5 calls failed: 1 \(ValueError: no 1\), 3 ") as caught:
        cached_map(work, range(5), tasklist_dir)
    failed: dict[int, BaseException] = caught.value.failed          # type: ignore[attr-defined]
    assert list(failed) == [1, 3] and isinstance(caught.value.__cause__, ValueError)
    assert "in work" in str(failed[3].__cause__), "the remote traceback"
    assert calls(log) == list(range(5)), "all others were done"
    os.unlink(f"{log}.bad1")
    with pytest.raises(MapFailed, match="1 of 5 calls failed: 3"):
        cached_map(work, range(5), tasklist_dir)
    os.unlink(f"{log}.bad3")
    calls(log)
    assert cached_map(work, range(5), tasklist_dir) == [0, 2, 4, 6, 8] and calls(log) == [3]
    assert list(TaskList(tasklist_dir, exist_ok=True, pre_clean=False).fail_tasks()) == []


def test_limits_hold_and_may_be_raised(tasklist_dir: Path) -> None:
    import time
    with pytest.raises(MapFailed) as caught:
        cached_map(time.sleep, [0.0, 1.5], tasklist_dir, timeout=0.8, retries=1)
    [(index, error)] = caught.value.failed.items()                  # type: ignore[attr-defined]
    assert index == 1 and isinstance(error, errors.TimedOut)
    assert cached_map(time.sleep, [0.0, 1.5], tasklist_dir, timeout=30) == [None, None]


def test_damaged_results_are_computed_again(tasklist_dir: Path, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    work = noted(log)
    cached_map(work, range(3), tasklist_dir)
    calls(log)
    file = next(tasklist_dir.glob("done/*-000001-*.pkl"))
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"outcome"', b'"outcomf"'))
    assert cached_map(work, range(3), tasklist_dir) == [0, 2, 4] and calls(log) == [1]
    assert "computed again" in capsys.readouterr().err


def test_tasks_of_ones_own_are_left_alone(tasklist_dir: Path, log: str) -> None:
    from runforrest import defer
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(len, "four"), name="mine")
    assert cached_map(noted(log), [1], tasks) == [2]
    assert [task.returnvalue for task in tasks.done_tasks()] == [4, 2]
    assert cached_map(noted(log, 5), [1], tasks) == [5]
    assert [task.returnvalue for task in tasks.done_tasks()] == [4, 5]


def test_bad_arguments(tasklist_dir: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="nprocesses=0"):
        cached_map(len, ["a"], tasklist_dir, nprocesses=0)
    with pytest.raises(errors.UnpicklableError, match=r"cannot pickle item 1: .*generator"):
        cached_map(list, [(), (i for i in ())], tasklist_dir)
    with pytest.raises(TypeError):
        cached_map(len, ["a"], tasklist_dir, color="red")
    with pytest.raises(errors.InvalidArgument, match="engine must be a function"):
        cached_map(len, ["a"], tasklist_dir, engine=5)  # type: ignore[arg-type]

    async def work(x: str) -> None: ...
    with pytest.raises(errors.DeferredError, match="work is an async function"):
        cached_map(work, ["a"], tasklist_dir)


def test_what_is_there_is_returned_from_a_disk_that_can_only_be_read(tmp_path: Path, log: str) -> None:
    with small_filesystem(tmp_path, "size=2m") as place:
        assert cached_map(noted(log), range(3), place / "map") == [0, 2, 4] and calls(log) == [0, 1, 2]
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert cached_map(noted(log), range(3), place / "map") == [0, 2, 4] and calls(log) == []
        with pytest.raises(OSError, match="Read-only"):
            cached_map(noted(log), range(4), place / "map")


def test_a_decorated_function_is_called(tmp_path: Path) -> None:
    """Where it can be imported, its name is that of the decorated one; a change of it is noticed all the same."""
    program = ("from runforrest.mapping import Tasker, cached_map; from work import f; "
               "print(cached_map(f, [1], 'map'), Tasker('serial').map('file', f, [1]))")
    for factor in (2, 3):
        (tmp_path / "work.py").write_text(f"import runforrest\n@runforrest.deferred\ndef f(x): return x * {factor}\n")
        # without byte code, which Python takes for fresh if the file has the same size and second as before
        ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
        assert ended.stdout == f"[{factor}] [(0, [1], {factor})]\n", ended.stderr


# -- engines -----------------------------------------------------------------------------------


def test_runners_of_an_engine_only(tasklist_dir: Path, log: str) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        def engine(folder: str) -> Any:
            return executor.engine(pool, folder, runners=2)
        assert cached_map(noted(log), range(6), tasklist_dir, nprocesses=0, engine=engine) == [0, 2, 4, 6, 8, 10]
        assert cached_map(noted(log), range(9), tasklist_dir, nprocesses=1, engine=engine)[8] == 16
    assert calls(log) == list(range(9))


def test_an_engine_whose_runners_leave(tasklist_dir: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, \
            pytest.raises(errors.ProcessError, match="exit code 2"):
        cached_map(len, ["a"], tasklist_dir, nprocesses=0,
                   engine=lambda folder: executor.engine(pool, folder, arguments=["--no-such-option"]))


# -- programs that die, and several at once ------------------------------------------------------

PROGRAM = """
    import os, sys, time
    from runforrest.mapping import cached_map

    def work(x):
        with open("log", "a") as log:
            log.write(f"{x}\\n")
        time.sleep(float(os.environ["SLEEP"]))
        return x * x

    print(cached_map(work, range(12), "map", nprocesses=2))
"""
SQUARES = f"{[x * x for x in range(12)]}\n"


def program(folder: Path, seconds: float) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(PROGRAM))
    return subprocess.Popen([sys.executable, str(script)], cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "SLEEP": str(seconds)})


def test_killed_in_the_middle(tasklist_dir: Path, tried: Tried) -> None:
    folder = tasklist_dir.parent
    finished: set[str] = set()
    for number in (2, 5, 8):
        with program(folder, 0.2) as process:
            wait_for(lambda n=number: len(files(folder, "map/done/*.pkl")) >= n, 60)
            os.kill(process.pid, signal.SIGKILL)
        finished |= {path.name.split("-")[3] for path in folder.glob("map/done/*.pkl")}
        tried("programs killed in the middle of a cached_map", 1)
    before = Counter((folder / "log").read_text().split())
    with program(folder, 0.0) as process:
        assert process.communicate(timeout=60)[0] == SQUARES
    after = Counter((folder / "log").read_text().split())
    again = set(map(int, after - before))
    assert again <= set(range(12)) - set(map(int, finished)), "what was finished is not computed again"


def test_programs_share_the_work(tasklist_dir: Path) -> None:
    folder = tasklist_dir.parent
    both = [program(folder, 0.3) for _ in range(3)]
    try:
        assert [process.communicate(timeout=60)[0] for process in both] == [SQUARES] * 3
    finally:
        for process in both:
            process.kill()
    assert sorted(map(int, (folder / "log").read_text().split())) == list(range(12)), "each was called once"


def test_one_waits_for_what_another_has_begun(tasklist_dir: Path) -> None:
    folder = tasklist_dir.parent
    script = PROGRAM.replace("range(12)", "range(1)")
    (folder / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "script.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLEEP": "2"}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE) as first:
        wait_for(lambda: (folder / "log").exists(), 30)
        second = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=60)
        assert second.stdout == first.communicate(timeout=60)[0] == "[0]\n", second.stderr
    assert (folder / "log").read_text() == "0\n"

"""joblib, and scikit-learn, over a task list."""

from __future__ import annotations

import gc
import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

joblib = pytest.importorskip("joblib")

import runforrest.futures.joblib as backend  # noqa: E402
from runforrest.errors import InvalidArgument, TimedOut  # noqa: E402
from tests.cli.programs import runforrest  # noqa: E402
from tests.futures import work  # noqa: E402
from tests.futures.support import SECONDS, no_runner_left, runners, started  # noqa: E402
from tests.helpers import wait_for  # noqa: E402
from tests.runner.support import counts  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tasklist_dir: Path) -> Iterator[Callable[..., Any]]:
    """What makes this backend that of all calls, in a list that is the test's."""
    def made(**options: Any) -> Any:
        return joblib.parallel_config(**{"backend": "runforrest", "directory": tasklist_dir, "n_jobs": 2,
                                         "durability": "none", **options})
    yield made
    gc.collect()
    no_runner_left(tasklist_dir)


def squares(number: int, **options: Any) -> list[int]:
    found: list[int] = joblib.Parallel(**options)(joblib.delayed(work.square)(n) for n in range(number))
    return found


def test_calls(config: Callable[..., Any], tasklist_dir: Path) -> None:
    with config():
        assert squares(20, batch_size=1) == [n * n for n in range(20)]
        assert counts(tasklist_dir)["done"] == 20
        assert len(runners(tasklist_dir)) == 1
        factor = 3
        assert joblib.Parallel()(joblib.delayed(lambda n: factor * n)(n) for n in range(5)) == [0, 3, 6, 9, 12]
        assert len(runners(tasklist_dir)) == 1          # the same one


def test_small_calls_are_batched(config: Callable[..., Any], tasklist_dir: Path,
                                 tried: Callable[[str, int], None]) -> None:
    number = 5000
    with config():
        assert squares(number) == [n * n for n in range(number)]
    assert counts(tasklist_dir)["done"] < number / 10
    tried("calls of joblib, in batches that it chose", number)


def test_an_exception(config: Callable[..., Any], tasklist_dir: Path) -> None:
    with config():
        with pytest.raises(ValueError, match="no use") as caught:
            joblib.Parallel(batch_size=1)(joblib.delayed(work.fails)() for _ in range(3))
        assert 'raise ValueError("no use")' in str(caught.value.__cause__)
        assert squares(4) == [0, 1, 4, 9]               # and it goes on


def test_the_others_are_ended_when_one_has_failed(config: Callable[..., Any], tasklist_dir: Path) -> None:
    long = joblib.delayed(time.sleep)(SECONDS)
    calls = [long, joblib.delayed(work.fails)(), *[long] * 9]
    with config(), pytest.raises(ValueError, match="no use"):
        joblib.Parallel(batch_size=1, pre_dispatch="all")(calls)
    wait_for(lambda: counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 11}, SECONDS)


def test_a_time_limit(config: Callable[..., Any]) -> None:
    with config(timeout=0.3, grace=0.1), pytest.raises(TimedOut):
        joblib.Parallel(batch_size=1)(joblib.delayed(time.sleep)(SECONDS) for _ in range(2))


def nested(number: int) -> tuple[str, list[int]]:
    kind = type(joblib.parallel.get_active_backend()[0]).__name__
    return kind, joblib.Parallel(n_jobs=2)(joblib.delayed(work.square)(n) for n in range(number))


def test_nested_calls(config: Callable[..., Any]) -> None:
    with config():
        found = joblib.Parallel()(joblib.delayed(nested)(n) for n in range(4))
    assert found == [("ThreadingBackend", [m * m for m in range(n)]) for n in range(4)]


def test_one_job_needs_no_list(config: Callable[..., Any], tasklist_dir: Path) -> None:
    with config(n_jobs=1):
        assert squares(3) == [0, 1, 4]
    assert not tasklist_dir.exists()
    with config(), pytest.raises(ValueError, match="n_jobs == 0"):
        squares(3, n_jobs=0)


def test_results_as_they_come(config: Callable[..., Any]) -> None:
    with config():
        found = joblib.Parallel(return_as="generator")(joblib.delayed(work.square)(n) for n in range(10))
        assert list(found) == [n * n for n in range(10)]
        unordered = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(work.square)(n) for n in range(10))
        assert sorted(unordered) == [n * n for n in range(10)]


def total(array: Any, kept: Any) -> tuple[float, str, bool]:
    return float(array.sum()), type(array).__name__, kept is array or bool((kept == array).all())


def test_large_arrays_are_written_once(config: Callable[..., Any], tasklist_dir: Path) -> None:
    import numpy
    array = numpy.arange(500_000, dtype=float)
    with config():
        found = joblib.Parallel(batch_size=1)(joblib.delayed(total)(array, kept=array) for _ in range(8))
        assert found == [(array.sum(), "memmap", True)] * 8
        assert len(os.listdir(f"{tasklist_dir}.arrays")) == 1
        assert max(path.stat().st_size for path in tasklist_dir.glob("done/*.pkl")) < 100_000
        made = (numpy.full(500_000, n, dtype=float) for n in range(8))     # which nobody else keeps
        found = joblib.Parallel(batch_size=1)(joblib.delayed(total)(each, None) for each in made)
        assert [each[0] for each in found] == [500_000 * n for n in range(8)]
        assert len(os.listdir(f"{tasklist_dir}.arrays")) < 5
    with config(max_nbytes=None):
        assert joblib.Parallel()(joblib.delayed(total)(array, array) for _ in range(2))[0][1] == "ndarray"
    gc.collect()
    assert not os.path.exists(f"{tasklist_dir}.arrays")


def test_a_temporary_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backend.tempfile, "tempdir", str(tmp_path))
    with joblib.parallel_config(backend="runforrest", n_jobs=2):
        assert squares(4) == [0, 1, 4, 9]
        assert [name for name in os.listdir(tmp_path) if name.startswith("runforrest-joblib-")]
    gc.collect()
    assert [name for name in os.listdir(tmp_path) if name.startswith("runforrest-joblib-")] == []


WAITING = """
import sys
from runforrest import TaskList
from runforrest.cli import main
TaskList(sys.argv[1], durability="none")
main(["run", sys.argv[1], "--wait", "-n", "2", "--quiet"])
"""


def test_others_run_the_list(config: Callable[..., Any], tasklist_dir: Path) -> None:
    with started(WAITING, tasklist_dir) as program, config(max_workers=0, n_jobs=4):
        wait_for((tasklist_dir / "runforrest.json").exists, SECONDS)
        assert squares(20) == [n * n for n in range(20)]
        assert runners(tasklist_dir) == []
        assert runforrest("stop", tasklist_dir).returncode == 0
        program.wait(SECONDS)


@pytest.mark.skipif("backend_kwargs" not in inspect.signature(joblib.Parallel).parameters, reason="an older joblib")
def test_options_of_one_use(config: Callable[..., Any], tasklist_dir: Path) -> None:
    """They were ignored, and so the calls were in a temporary list, which is gone."""
    other = tasklist_dir.with_name("others")
    given: dict[str, Any] = {"backend": "runforrest", "directory": other, "n_jobs": 2, "durability": "none"}
    assert squares(4, **given) == [0, 1, 4, 9]
    assert counts(other)["done"] > 0
    with config():
        assert squares(4) == squares(4, directory=other) == [0, 1, 4, 9]
    assert counts(tasklist_dir)["done"] > 0
    with pytest.raises(TypeError, match="unexpected keyword argument 'direktory'"):
        squares(4, **{**given, "direktory": other})
    gc.collect()
    no_runner_left(other)


def test_bad_options(config: Callable[..., Any]) -> None:
    with config(isolation="none"), pytest.raises(InvalidArgument):
        squares(3)


def test_an_empty_directory_is_no_directory(config: Callable[..., Any]) -> None:
    with config(directory=""), pytest.raises(InvalidArgument, match="directory must be a path"):
        squares(3)
    assert not os.path.exists("/tasks")


def test_grid_search(config: Callable[..., Any], tasklist_dir: Path, tried: Callable[[str, int], None]) -> None:
    """scikit-learn finds the same over the list as in this process."""
    pytest.importorskip("sklearn")
    import numpy
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC
    X, y = load_digits(return_X_y=True)
    grid = {"C": [0.1, 1.0, 10.0], "gamma": [0.0001, 0.001]}
    here = GridSearchCV(SVC(), grid, cv=3).fit(X[:600], y[:600])
    with config():
        there = GridSearchCV(SVC(), grid, cv=3).fit(X[:600], y[:600])
    assert there.best_params_ == here.best_params_
    scores = "mean_test_score"
    assert numpy.array_equal(there.cv_results_[scores], here.cv_results_[scores])
    assert counts(tasklist_dir)["done"] > 0 and counts(tasklist_dir)["fail"] == 0
    tried("fits of scikit-learn's grid search over a list", 18)

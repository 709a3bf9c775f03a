"""`deferred`, the decorator."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from runforrest import Task, TaskList, defer, deferred, evaluate
from runforrest.errors import DeferredError
from runforrest.graph import dumps, label, loads
from tests.graph.functions import Shop, halved
from tests.typed import mypy_refuses

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
from runforrest import TaskList, deferred

@deferred
def factorial(n):
    return 1 if n < 2 else n * factorial.__wrapped__(n - 1)

tasks = TaskList("tasks")
tasks.schedule(factorial(factorial(3)))
print([task.returnvalue for task in tasks.run(nprocesses=1)])
"""

TYPED = """
from runforrest import Task, defer, deferred

@deferred
def simulate(size: int, name: str = "") -> float: ...

def plain(size: int) -> float: ...

task: Task = simulate(3, name="x")
simulate(task, name=task[0])
simulate(defer(len, task))
defer(plain, task)
defer(plain)
defer(max, 1, 2)
defer(dict, a=task)
defer([task])
"""
WRONG = ["simulate('x')", "simulate()", "simulate(3, size=4)", "defer(plain, 'x')", "defer(plain, 1, 2)"]


def test_a_call_makes_a_task() -> None:
    task = halved(10)
    assert isinstance(task, Task) and label(task) == "halved"
    assert evaluate(task) == 5
    assert evaluate(halved(halved(x=12))) == 3


def test_it_looks_like_the_function() -> None:
    assert halved.__doc__ == "Half of it." and halved.__name__ == "halved"
    assert str(inspect.signature(halved)) == "(x: 'float') -> 'float'"
    assert halved.__annotations__ == {"x": "float", "return": "float"}
    assert typing.get_type_hints(halved) == {"x": float, "return": float}
    assert inspect.unwrap(halved)(4) == 2
    assert deferred(len).__annotations__ == {}


async def soon() -> int:
    return 1


@pytest.mark.parametrize("wrong, why", [
    (soon, r"soon is an async function.* use a function that calls asyncio.run\(soon"),
    (classmethod(halved), "put @deferred below @classmethod"), (3, "deferred takes a function, not int")])
def test_what_can_not_be_deferred(wrong: Any, why: str) -> None:
    with pytest.raises(DeferredError, match=why):
        deferred(wrong)


def test_methods() -> None:
    assert evaluate(Shop(3).price(4)) == 12
    assert evaluate(Shop.price(Shop(2), 4)) == 8
    for each in (deferred(staticmethod(abs)), staticmethod(deferred(abs))):
        kind = type("Kind", (), {"size": each})
        assert evaluate(kind.size(-3)) == evaluate(kind().size(-3)) == 3       # type: ignore[attr-defined]


@pytest.mark.parametrize("task", [halved(10), halved(halved(20)), Shop(5).price(1)])
def test_what_can_be_imported_is_pickled_by_its_name(task: Task) -> None:
    data, serializer = dumps(task)
    assert serializer == "pickle" and len(data) < 600
    again = loads(data)
    assert evaluate(again) == 5 and dumps(again)[1] == "pickle"


def test_the_decorated_function_itself_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(halved)) is halved


def test_a_local_function() -> None:
    @deferred
    def add(x: int) -> int:
        return x + increment

    increment = 7
    data, serializer = dumps(add(1))
    assert serializer == "dill" and evaluate(loads(data)) == 8


def test_another_name_of_a_function_leaves_that_one_alone() -> None:
    later = deferred(divmod)
    assert dumps(later(7, 2))[1] == "pickle" and evaluate(loads(dumps(later(7, 2))[0])) == (3, 1)


def test_in_a_list(tmp_path: Path) -> None:
    tasks = TaskList(tmp_path / "tasks")
    tasks.schedule(halved(defer(sum, [halved(6), 3])))
    assert [task.returnvalue for task in tasks.run(nprocesses=1)] == [3]


def test_in_a_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM)
    ended = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "[720]\n", ended.stderr


def test_something_else() -> None:
    with pytest.raises(DeferredError, match="not int"):
        deferred(3)  # type: ignore[arg-type]


def test_type_checkers_know_the_arguments(tmp_path: Path) -> None:
    mypy_refuses(tmp_path, TYPED, WRONG)

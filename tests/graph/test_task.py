"""The proxies."""

from __future__ import annotations

import copy
import functools
import math
import operator
import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import pytest

from runforrest.errors import DeferredError
from runforrest.graph import (
    PartOfTask,
    Task,
    TaskAttribute,
    TaskCall,
    TaskItem,
    defer,
    evaluate,
    label,
)

from . import functions as f


def test_defer_runs_nothing() -> None:
    f.calls.clear()
    task = defer(f.note, 1, x=2)
    assert f.calls == []
    assert (task._fun, task._args, task._kwargs) == (f.note, (1,), {"x": 2})
    assert isinstance(task._id, str)


def test_defer_takes_any_keyword() -> None:
    assert evaluate(defer(dict, fun=3, self=4, task=5)) == {"fun": 3, "self": 4, "task": 5}


def test_call_takes_any_keyword() -> None:
    assert evaluate(defer(dict).update(self=4, fun=2)) is None
    assert evaluate(defer(defer(lambda: dict))(self=1, fun=2)) == {"self": 1, "fun": 2}


@pytest.mark.parametrize("data", [42, None, "text", [1, 2], {"a": 1}, (), 1.5])
def test_data(data: object) -> None:
    assert evaluate(defer(data)) is data


def test_data_ignores_arguments_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"defer\(int, ...\) ignores the further arguments") as record:
        task = defer(42, 1, x=2)
    assert record[0].filename == __file__
    assert evaluate(task) == 42
    with pytest.warns(UserWarning, match="call its value"):
        assert evaluate(defer(defer(abs, -1), 3)) == 1


def test_no_warning_otherwise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        defer(42)
        defer(f.add, 1)


def test_defer_of_tasks_is_their_value() -> None:
    task = defer(f.Model, 3)
    for inner, value in [(task.size, 3), (defer([7])[0], 7), (task.fit(1), 4), (defer(task.size), 3)]:
        assert evaluate(defer(inner)) == value
    function = evaluate(defer(defer(lambda: f.add)))  # a callable value is data, too
    assert function is f.add


def test_all_are_tasks() -> None:
    task = defer(f.Model)
    parts = [task.size, task["a"], task(1), task + 1]
    assert all(isinstance(part, Task) for part in parts)
    assert [type(part) for part in parts] == [TaskAttribute, TaskItem, TaskCall, Task]
    assert all(issubclass(cls, PartOfTask) for cls in (TaskAttribute, TaskItem, TaskCall))


def test_attributes_and_items_chain() -> None:
    task = defer({"a": [f.Model(5)]})
    assert evaluate(task["a"][0].size) == 5
    assert evaluate(task["a"][0].name.upper()[1:3]) == "OD"
    assert evaluate(defer([10, 20, 30])[defer(f.increment, 0)]) == 20
    assert evaluate(defer([10, 20, 30])[defer(f.increment, 0) :]) == [20, 30]


def test_methods() -> None:
    assert evaluate(defer(f.Model, 3).fit(2, scale=defer(f.increment, 1))) == 10


def test_any_name_is_an_attribute_except_special_ones() -> None:
    task = defer(f.Model)
    for name in ["size", "metadata", "returnvalue", "runtime", "_hidden", "__half", "fit"]:
        assert isinstance(getattr(task, name), TaskAttribute)
    for name in ["__array__", "__wrapped__", "__len_hint__", "__getnewargs__", "__array_interface__"]:
        assert not hasattr(task, name)
        assert not hasattr(task.part, name)


def test_set_attributes_are_plain() -> None:
    task = defer(f.Model)
    task.metadata = {"a": 1}
    assert task.metadata == {"a": 1}


def test_keys_of_parts_do_not_collide() -> None:  # B13
    class Odd(dict):  # type: ignore[type-arg]
        a = "attribute"

    task = defer(lambda: Odd({"a": "item", 1: [0, 0, "1-2"], "1": "text", 12: "twelve"}))
    parts = [task["a"], task.a, task[1], task["1"], task[1][2], task[12]]
    assert evaluate(defer(parts)) == ["item", "attribute", [0, 0, "1-2"], "text", "1-2", "twelve"]
    known: dict[str, Any] = {}
    assert [evaluate(part, known) for part in parts] == evaluate(defer(parts))
    assert len({part._id for part in parts}) == len(parts)


BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "lshift", "rshift", "and_", "or_", "xor", "pow"]


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators(name: str) -> None:
    apply = getattr(operator, name)
    task = defer(f.add, 9)
    assert evaluate(apply(task, 2)) == apply(9, 2)
    assert evaluate(apply(2, task)) == apply(2, 9)
    assert evaluate(apply(task, task)) == apply(9, 9)
    in_place = getattr(operator, "i" + name.rstrip("_"))
    assert evaluate(in_place(task, 2)) == apply(9, 2)


def test_other_operators() -> None:
    task = defer(f.add, -9)
    assert evaluate(divmod(task, 4)) == divmod(-9, 4)  # type: ignore[operator]
    assert evaluate(divmod(4, task)) == divmod(4, -9)  # type: ignore[operator]
    assert evaluate(pow(task, 3, 5)) == pow(-9, 3, 5)
    assert [evaluate(x) for x in (-task, +task, ~task, abs(task))] == [9, -9, 8, 9]
    assert evaluate(round(defer(2.25))) == 2
    assert evaluate(round(defer(2.25), 1)) == 2.2

    class Matrix:
        def __matmul__(self, other: object) -> str:
            return "left"

        def __rmatmul__(self, other: object) -> str:
            return "right"

    assert evaluate(defer(Matrix()) @ 1) == "left"
    assert evaluate(1 @ defer(Matrix())) == "right"


def test_comparisons_stay_undefined() -> None:
    task = defer(f.add, 1)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(TypeError):
            compare(task, 1)


def test_numpy_leaves_operators_to_tasks() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.array([1, 2])
    assert isinstance(array + defer(f.add, 1), Task)
    assert evaluate(array + defer(f.add, 1)).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (iter, "iteration of <task add .*> has|iteration of <task add .*defer\\(list, task\\)"),
        (list, "defer\\(list, task\\)"),
        (bool, "defer\\(bool, task\\)"),
        (len, "defer\\(len, task\\)"),
        (lambda task: 1 in task, "operator.contains"),
        (lambda task: not task, "truth of <task add"),
    ],
)
def test_what_only_the_value_can_answer(use: Any, advice: str) -> None:
    task = defer(f.add, 1)
    for each in (task, task.part):
        with pytest.raises(DeferredError, match=advice.replace("add", "add.*")) as caught:
            use(each)
        assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_equality_and_hash() -> None:
    task, same_call = defer(f.add, 1), defer(f.add, 1)
    assert task == task and task != same_call
    assert (task == 1) is False and (task != 1) is True and (task == None) is False  # noqa: E711
    assert len({task, same_call, copy.copy(task)}) == 2
    assert {task: 1}[pickle.loads(pickle.dumps(task))] == 1
    assert task in [same_call, task] and task not in [same_call]
    part = task.a
    assert pickle.loads(pickle.dumps(part)) == part


def test_ids_of_forked_children_differ() -> None:
    script = (
        "import os\n"
        "from runforrest.graph import defer\n"
        "defer(1); print(defer(1)._id, flush=True)\n"
        "pid = os.fork()\n"
        "if pid: os.waitpid(pid, 0)\n"
        "print(defer(1)._id, flush=True)\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ids = done.stdout.split()
    assert len(set(ids)) == 3
    assert len({name.rpartition("-")[0] for name in ids}) == 2


@pytest.mark.parametrize("make", [lambda: defer(f.add, [1], x={"a": 2}), lambda: defer({"a": [1]})["a"]])
def test_copies(make: Any) -> None:
    task = make()
    task.metadata = {"list": [1]}
    for twin in (copy.copy(task), copy.deepcopy(task)):
        assert type(twin) is type(task) and twin is not task
        assert twin == task
        assert twin.metadata == task.metadata
    assert copy.copy(task).metadata is task.metadata
    assert copy.deepcopy(task).metadata["list"] is not task.metadata["list"]


def test_copy_shares_and_deepcopy_does_not() -> None:
    data = [1]
    task = defer(f.echo, data)
    assert copy.copy(task)._args[0] is data
    deep = copy.deepcopy(task)
    data.append(2)
    assert evaluate(deep) == (([1],), {})
    assert evaluate(copy.copy(task)) == (([1, 2],), {})


def test_repr_is_short() -> None:
    task = defer(f.simulate, defer(f.add, "x" * 10_000))
    assert repr(task) == f"<task simulate {task._id}>"
    for _ in range(5000):
        task = task[0].attribute
    assert len(repr(task)) <= 100
    assert repr(object.__new__(Task)).startswith("<task ")
    assert repr(object.__new__(TaskItem)).startswith("<task ")


class Hostile:
    def __call__(self) -> None: ...

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    __repr__ = __hash__ = None  # type: ignore[assignment]


def test_labels() -> None:
    task = defer(f.simulate, 1)
    cases = [
        (task, "simulate"),
        (task.attr, "simulate.attr"),
        (task[0], "simulate[0]"),
        (task["key"], "simulate['key']"),
        (task.a[1].b(3)[task], "simulate.a[1].b()[...]"),
        (task[1:2], "simulate[...]"),
        (task[10**5000], "simulate[...]"),
        (defer(lambda: 1), "test_labels.lambda"),
        (defer(f.Model.fit, 1), "Model.fit"),
        (defer(f.Model(1).fit, 1), "Model.fit"),
        (defer(f.Model), "Model"),
        (defer(functools.partial(functools.partial(f.simulate, 1), 2)), "simulate"),
        (defer(math.sqrt, 2), "sqrt"),
        (defer(42), "data:int"),
        (defer(task[0]), "simulate[0]"),
        (task + 1, "add"),
        (42, "data:int"),
    ]
    for each, text in cases:
        assert label(each) == text.replace("test_labels.", "")


def test_label_never_fails_and_is_bounded() -> None:
    def name_me() -> None: ...

    name_me.__qualname__ = "x" * 1000
    assert len(label(defer(name_me))) == 80
    task = defer(name_me)
    for _ in range(1000):
        task = task.attribute["k" * 1000]
    assert len(label(task)) == 80
    assert isinstance(label(defer(Hostile())), str)
    assert isinstance(label(defer(1)[Hostile()]), str)

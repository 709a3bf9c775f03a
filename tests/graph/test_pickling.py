"""Pickling: flat, small, equal, by plain pickle and by dill."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dill
import pytest

from runforrest.graph import Task, TaskAttribute, TaskCall, TaskItem, defer, dumps, evaluate, loads

from . import functions as f

ROOT = Path(__file__).resolve().parent.parent.parent


def by_pickle(task: Any) -> Any:
    return pickle.loads(pickle.dumps(task))


def by_python_pickle(task: Any) -> Any:
    import io

    file = io.BytesIO()
    pickle._Pickler(file, 2).dump(task)  # type: ignore[attr-defined]
    file.seek(0)
    return pickle._Unpickler(file).load()  # type: ignore[attr-defined]


def by_dill(task: Any) -> Any:
    return pickle.loads(dill.dumps(task, recurse=True))


def by_us(task: Any) -> Any:
    return loads(dumps(task)[0])


def by_table(task: Any) -> Any:
    """A pickler that doesn't look at the table of copyreg."""
    import io

    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.dispatch_table = {}
    pickler.dump(task)
    return pickle.loads(file.getvalue())


ways = pytest.mark.parametrize("way", [by_pickle, by_python_pickle, by_table, by_dill, by_us])


@ways
def test_round_trip(way: Any) -> None:
    base = defer(f.Model, size=defer(f.add, 1, 2))
    tasks = [
        defer(f.add, 1),
        defer(f.add, 1, x=2),
        defer(f.echo, a=defer(f.add, 1), b=[defer(f.add, 2)]),
        defer(f.echo, [1, {"a": 2}]),
        defer(42),
        defer(None),
        defer([defer(f.add, 1)]),
        defer(base),
        base.size,
        defer({"a": 1})["a"],
        base.fit(1, scale=base.size),
        base.size + 1,
    ]
    for task in tasks:
        again = way(task)
        assert type(again) is type(task)
        assert again == task and hash(again) == hash(task) and again._id == task._id
        assert repr(again) == repr(task)
        assert evaluate(again) == evaluate(task)
        assert way(again) == task


@ways
def test_attributes(way: Any) -> None:
    item = defer({"a": f.Model(4)})["a"]
    again = way(item.fit)
    assert isinstance(again, TaskAttribute) and again._index == "fit" and again._parent == item
    again = way(item)
    assert isinstance(again, TaskItem) and again._index == "a"
    again = way(item.fit(1, scale=2))
    assert isinstance(again, TaskCall) and (again._args, again._kwargs) == ((1,), {"scale": 2})
    again = way(defer(f.add, 1, a=2))
    assert (again._fun, again._args, again._kwargs) == (f.add, (1,), {"a": 2})


@ways
@pytest.mark.parametrize(
    "make", [lambda: defer(f.add, 1), lambda: defer(f.add, defer(1)), lambda: defer(1).real]
)
def test_further_attributes_are_kept(way: Any, make: Any) -> None:
    task = make()
    extra = {"returnvalue": [1], "errorvalue": None, "runtime": 0.5, "attempts": (), "scheduled": "now"}
    for name, value in extra.items():
        setattr(task, name, value)
    task.metadata = {"me": task, "other": defer(f.add, 1)}
    again = way(task)
    assert {name: getattr(again, name) for name in extra} == extra
    assert again.metadata["me"] is again
    assert evaluate(again.metadata["other"]) == 1
    assert again == task


@ways
def test_sharing_is_kept(way: Any) -> None:
    box: list[Any] = [1]
    shared = defer(f.note, box)
    mixed = [shared, box]
    again = way(defer(f.echo, shared, mixed, defer(f.echo, mixed, x=box)))
    first, second, third = again._args
    assert first is second[0]
    assert first._args[0] is second[1] is third._kwargs["x"]
    assert third._args[0] is second
    f.calls.clear()
    evaluate(again)
    assert f.calls == [[1]]


@ways
def test_equal_numbers_keep_their_types(way: Any) -> None:
    values = [1, True, 1.0, 0, False, 0.0, -0.0, "1", b"1", None, (), ((1,), (True,))]
    again = way(defer(f.echo, *values, defer(f.add)))
    assert repr(again._args[:-1]) == repr(tuple(values))


@ways
def test_keyword_names_stay_with_their_calls(way: Any) -> None:
    names = [{"a": 1, "b": 2}, {"b": 1, "a": 2}, {}, {"a": 3}, {"a": 1, "b": 2}]
    again = way(defer(f.echo, *[defer(f.echo, **each) for each in names]))
    assert [list(each._kwargs.items()) for each in again._args] == [list(each.items()) for each in names]


@ways
def test_very_long_chains(way: Any) -> None:  # B10
    length = 10_000 if way is by_python_pickle else 100_000
    task = defer(f.increment, 0)
    for _ in range(length - 1):
        task = defer(f.increment, task)
    again = way(task)
    assert again == task
    assert evaluate(again) == length


@pytest.mark.parametrize("way", [by_pickle, by_us])
def test_very_long_chain_through_containers(way: Any) -> None:
    task = defer(f.add, 1)
    for _ in range(5_000):
        task = defer(sum, ({"x": [task, 1]})["x"])
        task = defer(max, {"a": (task,)}["a"])
    assert evaluate(way(task)) == 5_001


def test_deep_containers_around_a_task() -> None:
    value: Any = defer(f.add, 1)
    for _ in range(20_000):
        value = (value,)
    value = evaluate(by_us(defer(f.note, value)))
    for _ in range(20_000):
        (value,) = value
    assert value == 1


def test_pickles_are_small() -> None:
    one = len(dumps(defer(f.increment, 1))[0])
    assert one < 150
    task = defer(f.increment, 1)
    for _ in range(1000):
        task = defer(f.increment, task)
    assert len(dumps(task)[0]) < one + 1000 * 25


def test_ids_of_several_processes_in_one_graph() -> None:
    tasks = [defer(f.add, 1) for _ in range(6)]
    for task, name in zip(tasks, ["aa-1", "aa-2", "140231", "bb-3", "77", "aa-4"], strict=True):
        task._id = name
    again = by_us(defer(f.echo, *tasks))
    assert [task._id for task in again._args] == [task._id for task in tasks]


# -- dumps -----------------------------------------------------------------------------------


class Local:
    pass


def test_who_writes() -> None:
    class Inner:
        pass

    def inner() -> None: ...

    assert dumps(defer(f.add, 1))[1] == "pickle"
    assert dumps({"a": [1, f.Model()]})[1] == "pickle"
    assert dumps(f.Model)[1] == "pickle"
    assert dumps(Local())[1] == "pickle"
    assert dumps(len)[1] == "pickle"
    assert dumps([].append)[1] == "pickle"
    for value in (Inner(), Inner, inner, lambda: 1, defer(f.add, inner), sys):
        assert dumps(value)[1] == "dill"


def test_any_value_can_be_dumped() -> None:
    for value in (None, [1], {"a": (1, 2)}, ValueError("x"), f.Model):
        again = loads(dumps(value)[0])
        assert type(again) is type(value) and repr(again) == repr(value)


def test_class_and_instances_stay_together() -> None:
    class Inner:
        pass

    def check(thing: object, cls: type) -> bool:
        return isinstance(thing, Inner) and cls is Inner and type(thing) is cls

    assert evaluate(by_us(defer(check, defer(f.note, Inner()), Inner)))


def test_global_named_like_an_attribute_is_not_pickled() -> None:
    def inner(x: Any) -> Any:
        return x.ways

    assert len(dumps(inner)[0]) < 600


def test_module_of_the_pickle_is_the_protocol_of_old_pythons() -> None:
    assert dumps(defer(f.add, 1))[0][:2] == dumps(lambda: 1)[0][:2] == b"\x80\x05"


def test_a_function_that_hides_another_is_pickled_by_value() -> None:
    original = f.increment
    try:
        f.increment = lambda x: x  # type: ignore[assignment]
        data, writer = dumps(defer(original, 1))
    finally:
        f.increment = original
    assert writer == "dill"
    assert evaluate(loads(data)) == 2


# -- what is loaded --------------------------------------------------------------------------


def fresh(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_little_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "task"
    file.write_bytes(dumps(defer(operator_add, [1, defer(len, "ab")][0], {"a": defer(2)}["a"]))[0])
    code = (
        "import sys; before = set(sys.modules)\n"
        "from runforrest.graph import evaluate, loads, dumps\n"
        "with open(sys.argv[1], 'rb') as file: data = file.read()\n"
        "assert evaluate(loads(data)) == 3; dumps([1])\n"
        "heavy = {'dill', 'typing', 'dataclasses', 're', 'random', 'logging', 'inspect', 'enum', 'pickle',\n"
        "         'threading', 'warnings', 'copy', 'collections.abc'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    assert fresh(code, str(file)).strip() == "[]"


operator_add = __import__("operator").add


# -- RunForrest's pickles --------------------------------------------------------------------

OLD = '''
import pickle, sys

class Task:
    def __init__(self, fun, args, kwargs):
        self._fun, self._args, self._kwargs, self._id = fun, args, kwargs, str(id(self))

class TaskAttribute:
    def __init__(self, parent, index):
        self._parent, self._index, self._id = parent, index, parent._id + str(index)

class TaskItem(TaskAttribute):
    pass

def of_main(x):
    return [x]

if __name__ == "__main__":
    import runforrest as old
    odd = old.Task(eval, ["type('Odd', (dict,), {'a': 'attribute'})(a='item')"], {})
    add = old.Task(max, (old.TaskItem(odd, "a"), old.TaskAttribute(odd, "a")), {})
    add.metadata, add.returnvalue, add.errorvalue = {"n": 1}, "item", None
    import dill
    with open("old_main.pkl", "wb") as file:
        dill.dump(old.Task(of_main, (add,), {}), file)
    with open("old.pkl", "wb") as file:
        pickle.dump([add, old.Task(max, (old.TaskAttribute(odd, "a"), "a"), {})], file, 4)
'''


def test_tasks_of_runforrest_0_4(tmp_path: Path) -> None:
    (tmp_path / "runforrest.py").write_text(OLD)
    subprocess.run([sys.executable, "runforrest.py"], cwd=tmp_path, check=True)
    code = (
        "import sys, pickle\n"
        "import runforrest, runforrest.graph as graph\n"
        "for name in ('Task', 'TaskItem', 'TaskAttribute'): setattr(runforrest, name, getattr(graph, name))\n"
        "with open(sys.argv[1], 'rb') as file: task, other = pickle.load(file)\n"
        "assert type(task) is graph.Task and task == graph.loads(graph.dumps(task)[0])\n"
        "print(graph.evaluate(task), graph.evaluate(other))\n"
        "print(task.metadata, task.returnvalue, task.errorvalue)\n"
        "print(graph.evaluate(graph.loads(graph.dumps(graph.defer([task, other]))[0])))\n"
    )
    code += "with open(sys.argv[2], 'rb') as file: print(graph.evaluate(graph.loads(file.read())))\n"
    out = fresh(code, str(tmp_path / "old.pkl"), str(tmp_path / "old_main.pkl"))
    assert out.splitlines()[3] == "['item']"  # dill, with its default settings
    assert out.splitlines()[:3] == ["item attribute", "{'n': 1} item None", "['item', 'attribute']"]


def test_state_alone_makes_a_task() -> None:
    task: Task = object.__new__(Task)
    task.__dict__.update({"_fun": f.add, "_args": [1, 2], "_kwargs": {}, "_id": "140"})
    assert evaluate(task) == 3
    assert evaluate(by_us(task)) == 3 and by_us(task) == task

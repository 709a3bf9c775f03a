"""Evaluating, and finding tasks in arguments."""

from __future__ import annotations

import dataclasses
import gc
import operator
import traceback
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any, ClassVar, NamedTuple

import pytest

from runforrest.errors import GraphError
from runforrest.graph import Task, defer, dumps, evaluate, loads

from . import functions as f


def echo(value: Any) -> Any:
    """The value of an argument, as the function receives it."""
    return value


def received(value: Any) -> Any:
    """The same, and the same again after pickling."""
    task = defer(echo, value)
    now = evaluate(task)
    later = evaluate(loads(dumps(task)[0]))
    assert repr(now) == repr(later) and type(now) is type(later)
    return now


ONE = defer(f.add, 1)


class Point(NamedTuple):
    x: Any
    y: Any = 0


Old = namedtuple("Old", "a b")


@dataclasses.dataclass
class Plain:
    x: Any
    y: Any = 0
    shared: ClassVar[list[int]] = []
    made: int = dataclasses.field(default=0, init=False)
    given: dataclasses.InitVar[int] = 3

    def __post_init__(self, given: int) -> None:
        self.made += given


@dataclasses.dataclass
class Child(Plain):
    z: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


@dataclasses.dataclass(frozen=True)
class FrozenChild(Frozen):
    __slots__ = ("y",)
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    x: Any
    y: Any = 0


@dataclasses.dataclass(slots=True)
class SlotsChild(Plain):
    w: Any = 0


@dataclasses.dataclass
class Problem(Exception):
    x: Any


class MyList(list):  # type: ignore[type-arg]
    note = "class"


class MyDict(dict):  # type: ignore[type-arg]
    pass


class MySet(set):  # type: ignore[type-arg]
    pass


class MyFrozenset(frozenset):  # type: ignore[type-arg]
    pass


# -- plain evaluation ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, "a", None, [1], [defer(f.add, 1)], f.Task1(), f.Task1])
def test_non_tasks_are_returned_as_they_are(value: object) -> None:
    assert evaluate(value) is value


def test_classes_named_task_are_not_tasks() -> None:  # B14
    for value in (f.Task1(), f.ExportTask(), f.Task1):
        assert evaluate(defer(echo, value)) is value
        assert evaluate(defer(echo, [value, ONE])) == [value, 1]


def test_each_task_runs_once() -> None:
    f.calls.clear()
    shared = defer(f.note, 2)
    part = shared + 1
    total = defer(f.add, shared, shared, part, part, x=shared)
    assert evaluate(defer(f.add, total, defer(f.add, *[part, shared]))) == 17
    assert f.calls == [2]


def test_a_call_of_a_task_runs_once() -> None:
    f.calls.clear()
    call = defer(echo, f.note)("x")
    assert evaluate(defer(echo, [call, call])) == ["x", "x"]
    assert f.calls == ["x"]


def test_equal_tasks_run_once() -> None:
    f.calls.clear()
    task = defer(f.note, 1)
    again = loads(dumps(task)[0])
    assert evaluate(defer(f.add, task, again)) == 2
    assert f.calls == [1]


def test_order_of_arguments_is_kept() -> None:
    f.calls.clear()
    task = defer(f.echo, defer(f.note, 1), 2, defer(f.note, 3), b=defer(f.note, 4), a=5)
    assert evaluate(task) == ((1, 2, 3), {"b": 4, "a": 5})
    assert f.calls == [1, 3, 4]


def test_the_function_may_be_a_task() -> None:
    assert evaluate(defer(echo, f.add)(1, defer(f.add, 2))) == 3


def test_known_results_are_read_and_filled() -> None:
    f.calls.clear()
    first = defer(f.note, 1)
    second = defer(f.note, first)
    known = {first._id: 10}
    assert evaluate(second, known) == 10
    assert f.calls == [10]
    assert known == {first._id: 10, second._id: 10}
    assert evaluate(second, known) == 10
    assert f.calls == [10]
    known = {}
    evaluate(defer(echo, [second.real, first]), known)
    assert sorted(map(str, known.values())) == ["1", "1", "1", "[1, 1]"]


def test_known_results_of_none_count() -> None:
    f.calls.clear()
    task = defer(f.note, 1)
    assert evaluate(task, {task._id: None}) is None
    assert f.calls == []


@pytest.mark.parametrize("in_list", [False, True])
def test_very_long_chains(in_list: bool) -> None:
    task = defer(f.increment, 0)
    for _ in range(100_000 - 1):
        task = defer(max, [task + 1, 0]) if in_list else defer(f.increment, task)
    assert evaluate(task) == 100_000


def test_very_deep_containers() -> None:
    inner: Any = [ONE]
    for _ in range(50_000):
        inner = [inner]
    value = evaluate(defer(echo, inner))
    for _ in range(50_000):
        value = value[0]
    assert value == [1]


def test_long_chain_of_parts() -> None:
    data: Any = 7
    for _ in range(5000):
        data = (data,)
    task: Task = defer(echo, data)
    for _ in range(5000):
        task = task[0]
    assert evaluate(task) == 7


def test_exceptions_come_through_untouched() -> None:
    error = KeyError("x")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        evaluate(defer(f.add, 1, defer(fail)))
    assert caught.value is error
    assert error.__cause__ is None and error.__context__ is None
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[1:] == ["evaluate", "fail"]
    with pytest.raises(SystemExit):
        evaluate(defer(exit))
    with pytest.raises(AttributeError, match="no_such_thing"):
        evaluate(defer(1).no_such_thing)


def test_values_are_dropped_after_their_last_use() -> None:
    class Big:
        def next(self) -> Big:
            gc.collect()
            alive.append(sum(reference() is not None for reference in references))
            return make()

    references: list[weakref.ref[Big]] = []
    alive: list[int] = []

    def make() -> Big:
        big = Big()
        references.append(weakref.ref(big))
        return big

    def following(bigs: list[Big]) -> Big:
        return bigs[0].next()

    task = defer(make)
    for _ in range(10):
        task = defer(following, [task])
    evaluate(task)
    assert len(alive) == 10 and max(alive) <= 2
    alive.clear()
    references.clear()
    evaluate(task, {})
    assert alive == list(range(1, 11))


# -- containers ----------------------------------------------------------------------------


def test_tasks_in_containers_are_resolved() -> None:  # B15
    assert received([ONE, [ONE, (2, ONE)]]) == [1, [1, (2, 1)]]
    assert received({"a": ONE, "b": {"c": [ONE]}}) == {"a": 1, "b": {"c": [1]}}
    assert received({ONE: 2, (3, ONE): ONE, "x": 0}) == {1: 2, (3, 1): 1, "x": 0}
    assert received({ONE, 2, (ONE, 3)}) == {1, 2, (1, 3)}
    assert received(frozenset([ONE, frozenset([ONE])])) == frozenset([1, frozenset([1])])
    assert received(slice(ONE, None, 2)) == slice(1, None, 2)
    assert received(()) == ()


def test_order_of_dicts_is_kept() -> None:
    assert list(received({"b": 1, ONE: 2, "a": ONE}).items()) == [("b", 1), (1, 2), ("a", 1)]


def test_named_tuples() -> None:
    assert received(Point(ONE, [ONE])) == Point(1, [1])
    assert received(Old(ONE, 2)) == Old(1, 2)
    assert type(received(Point(ONE))) is Point


def test_kinds_of_containers_are_kept() -> None:
    ordered = received(OrderedDict([("b", ONE), ("a", 2)]))
    assert type(ordered) is OrderedDict and list(ordered.items()) == [("b", 1), ("a", 2)]
    ordered.move_to_end("b")
    assert list(ordered) == ["a", "b"]
    default = received(defaultdict(list, a=ONE))
    assert default["a"] == 1 and default["new"] == []
    assert received(deque([ONE, 2, 3], maxlen=3)).maxlen == 3
    assert list(received(deque([ONE, 2, 3], maxlen=3))) == [1, 2, 3]
    assert received(Counter({"a": ONE})) == Counter({"a": 1})
    for cls in (MyList, MySet, MyFrozenset):
        value = received(cls([ONE, 2]))
        assert type(value) is cls and sorted(value) == [1, 2]
    assert type(received(MyDict(a=ONE))) is MyDict
    mine = MyList([ONE])
    mine.note = "instance"
    assert received(mine) == [1] and received(mine).note == "instance"


def test_dataclasses() -> None:
    assert received(Plain(ONE, [ONE])) == Plain(1, [1])
    child = received(Child(0, ONE, z={"a": ONE}))
    assert (child.x, child.y, child.z, child.made) == (0, 1, {"a": 1}, 3)  # __post_init__ ran once
    assert received(Frozen(ONE)) == Frozen(1)
    assert received(FrozenChild(ONE, ONE)) == FrozenChild(1, 1)
    assert received(Slots([ONE], 2)) == Slots([1], 2)
    assert received(SlotsChild(x=1, w=ONE)).w == 1
    assert received({Frozen(ONE)}) == {Frozen(1)}
    assert received({Slots(ONE): Slots(ONE)}) == {Slots(1): Slots(1)}
    problem = received(Problem(ONE))
    assert type(problem) is Problem and problem.x == 1


def test_unset_fields_stay_unset() -> None:
    value = Plain(ONE)
    del value.y, value.made
    value.extra = 5  # type: ignore[attr-defined]
    resolved = received(value)
    assert vars(resolved) == {"x": 1, "extra": 5}
    slots = SlotsChild(x=ONE)
    del slots.w
    assert not hasattr(evaluate(defer(echo, slots)), "w")


def test_a_dataclass_as_function() -> None:
    @dataclasses.dataclass
    class Adder:
        n: Any

        def __call__(self, x: int) -> int:
            return int(self.n + x)

    assert evaluate(defer(Adder(ONE), 2)) == 3
    assert evaluate(defer(Plain, ONE, y=2)) == Plain(1, 2)


def test_containers_without_tasks_are_the_same_objects() -> None:
    values: list[Any] = [
        [1, [2]],
        {"a": [1]},
        {1},
        deque([1]),
        Plain([1]),
        Slots(1),
        OrderedDict(a=[1]),
        (1, [2]),
        list(range(100_000)),
        f.Model(),
    ]
    for value in values:
        assert evaluate(defer(echo, value)) is value
        assert evaluate(defer(echo, [value, ONE]))[0] is value


def test_own_objects_are_never_changed() -> None:
    inner: list[Any] = [ONE]
    outer = {"a": inner, "p": Plain(ONE)}
    evaluate(defer(echo, outer))
    dumps(defer(echo, outer))
    assert outer["a"] is inner and inner[0] is ONE
    assert outer["p"].x is ONE  # type: ignore[attr-defined]


def test_a_container_given_twice_stays_one() -> None:
    inner: list[Any] = [ONE]
    a, b = received((inner, {"again": inner}))
    assert a is b["again"] and a == [1] and a is not inner
    change = defer(list.append, inner, 2)
    task = defer(f.echo, change, defer(echo, inner))
    assert evaluate(task)[0][1] == [1, 2]
    assert evaluate(loads(dumps(task)[0]))[0][1] == [1, 2]
    plain = [1]
    twice = loads(dumps(defer(f.echo, defer(id, plain), defer(id, plain)))[0])
    ids = evaluate(twice)[0]
    assert ids[0] == ids[1]


def test_containers_that_contain_themselves() -> None:
    loop: list[Any] = [ONE]
    loop.append(loop)
    value = received(loop)
    assert value[0] == 1 and value[1] is value
    clean: list[Any] = []
    clean.append({"me": clean})
    assert evaluate(defer(echo, clean)) is clean
    assert evaluate(defer(echo, [clean, ONE]))[0] is clean
    inner: list[Any] = []
    pair = (inner, ONE)
    inner.append((pair, pair))
    value = received(pair)
    assert value[1] == 1 and value[0][0][0] is value and value[0][0][1] is value
    plain = Plain(ONE)
    plain.y = {"me": [plain]}
    value = received(plain)
    assert value.x == 1 and value.y["me"][0] is value


def test_a_clean_and_an_unclean_loop() -> None:
    clean: list[Any] = []
    clean.append(clean)
    loop: list[Any] = [clean, ONE]
    loop.append(loop)
    other: list[Any] = [loop, clean]
    value = evaluate(defer(echo, other))
    assert value[1] is clean and value[0][0] is clean and value[0][2] is value[0]
    assert evaluate(defer(f.echo, loop, defer(len, loop)))[0][1] == 3


def test_a_task_may_not_depend_on_itself() -> None:
    box: list[Any] = []
    task = defer(f.add, box)
    box.append(task)
    for use in (evaluate, dumps):
        with pytest.raises(GraphError, match="add depends on its own result"):
            use(task)
        with pytest.raises(GraphError):
            use(defer(echo, {"a": task.part}))


def test_a_circle_that_is_entered_from_the_side() -> None:
    inner: list[Any] = []
    outer: list[Any] = [inner]
    inner.append(outer)
    outer.append(defer(echo, inner))  # the call needs inner, that holds outer, that holds the call
    with pytest.raises(GraphError):
        evaluate(defer(echo, outer))


def test_tasks_in_other_objects_are_left_alone() -> None:
    model = f.Model()
    model.name = ONE  # type: ignore[assignment]
    assert evaluate(defer(echo, model)).name is ONE


def test_operator_results_are_shared() -> None:
    task = defer(f.note, 2)
    f.calls.clear()
    double = task + task
    assert evaluate(defer(operator.mul, double, double)) == 16
    assert f.calls == [2]

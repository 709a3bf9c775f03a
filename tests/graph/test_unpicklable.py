"""Saying what can't be pickled, and where it is."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import socket
from typing import Any

import pytest

from runforrest.errors import UnpicklableError
from runforrest.graph import defer, dumps, find_unpicklable

from . import functions as f


def numbers() -> Any:
    return (i for i in range(3))


def message(obj: Any) -> str:
    with pytest.raises(UnpicklableError) as caught:
        dumps(obj)
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error) and set(vars(error)) == {"path", "offender"}
    assert "\n" not in str(error) and len(str(error)) < 1500
    assert error.path in str(error) and error.offender in str(error)
    return str(error)


BAD = numbers()


@dataclasses.dataclass
class Settings:
    path: str
    stream: Any


class Slotted:
    __slots__ = ("bad",)

    def __init__(self) -> None:
        self.bad = BAD


def uses_global() -> Any:
    return BAD


def with_global() -> Any:
    """A function that can't be imported, and mentions BAD."""

    def inner() -> Any:
        return BAD

    return inner


def with_cell() -> Any:
    stream = numbers()
    return lambda: stream


def holder(value: Any) -> Any:
    model = f.Model()
    model.name = value
    return model


CASES: list[tuple[Any, str]] = [
    (defer(f.simulate, 1, BAD), "argument 'lock' of simulate"),
    (defer(f.simulate, 1, lock=BAD), "argument 'lock' of simulate"),
    (defer(f.simulate, speed=1, lock=[1, {"a": BAD}]), "argument 'lock' of simulate, in [1]['a']"),
    (defer(f.add, 1, BAD), "argument 1 of add"),
    (defer(f.add, x=BAD), "argument 'x' of add"),
    (defer(f.Model, BAD), "argument 'size' of Model"),
    (defer(f.Model(1).fit, BAD), "argument 'x' of Model.fit"),
    (defer(f.add, defer(f.simulate, BAD)), "argument 'speed' of simulate"),
    (defer(f.add, [defer(f.simulate, 1), BAD]), "argument 0 of add, in [1]"),
    (defer(f.add, {"k": Settings("x", [BAD, defer(1)])}), "argument 0 of add, in ['k'].stream[0]"),
    (defer(f.add, Settings("x", BAD)), "argument 0 of add, in .stream"),
    (defer(f.add, Slotted()), "argument 0 of add, in .bad"),
    (defer(f.add, holder({"deep": BAD})), "argument 0 of add, in .name['deep']"),
    (defer(f.add, 1)[BAD], "the index of add[...]"),
    (defer(f.add)(1, BAD), "argument 1 of add()"),
    (defer(BAD), "the data"),
    (defer(functools.partial(f.add, BAD)), "function add, in .args[0]"),
    (defer(functools.partial(f.add, x=BAD)), "function add, in .keywords['x']"),
    (defer(holder(BAD).fit, 1), "function Model.fit, in .__self__.name"),
    (defer(with_global()), "function inner, in global 'BAD' of inner"),
    (defer(with_cell()), "function lambda, in closure variable 'stream' of lambda"),
    ([1, {"a": BAD}], "the value, in [1]['a']"),
    (BAD, "the value"),
]


@pytest.mark.parametrize(("obj", "path"), CASES, ids=[path for _, path in CASES])
def test_path(obj: Any, path: str) -> None:
    text = message(obj)
    start = f"cannot pickle {path}: <generator object numbers."
    assert text.startswith(start), text
    assert "(a generator)" in text
    assert text.endswith("pass something that can be rebuilt in another process instead")
    found = find_unpicklable(obj)
    assert found is not None and str(found[0]) in path and isinstance(found[2], Exception)
    assert type(found[1]).__name__ == "generator"


def test_metadata() -> None:
    task = defer(f.add, 1)
    task.metadata = [BAD]
    assert message(task).startswith("cannot pickle metadata of add, in [0]: <generator")


def test_kinds_have_names() -> None:
    with socket.socket() as sock:
        assert "(a socket)" in message(defer(f.simulate, sock))


def test_nothing_to_find() -> None:
    assert find_unpicklable(defer(f.add, [1, 2])) is None
    assert find_unpicklable(lambda: 1) is None


def test_too_deep() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    text = message(defer(f.simulate, deep))
    assert text.startswith("cannot pickle argument 'speed' of simulate: <list with 1 elements> (a list)")
    assert "nested too deeply" in text
    assert "nested too deeply" in message(deep)


def test_hostile_objects() -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            raise RuntimeError("no\nno")

        def __repr__(self) -> str:
            raise RuntimeError("never")

    assert message(defer(f.simulate, Hostile())).startswith(
        "cannot pickle argument 'speed' of simulate: <Hostile> (a Hostile): no no; "
    )


def test_search_is_bounded() -> None:
    chain = defer(f.simulate, 0)
    for number in range(5000):
        chain = defer(f.simulate, [float(number)], chain)
    attempts = []

    class Counting:
        def __reduce__(self) -> Any:
            attempts.append(1)
            raise TypeError("no")

    message(defer(f.simulate, Counting(), chain))
    assert len(attempts) < 20
    many = [[number] for number in range(5000)]
    text = message(defer(f.simulate, [*many, Counting()]))
    assert text.startswith("cannot pickle argument 'speed' of simulate")


def test_the_cause_is_kept() -> None:
    with pytest.raises(UnpicklableError) as caught:
        dumps(BAD)
    assert "generator" in str(caught.value.__cause__)

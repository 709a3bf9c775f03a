"""Random graphs have the value that calling the functions directly has, also after pickling."""

from __future__ import annotations

import dataclasses
import pickle
from collections import OrderedDict, deque
from typing import Any, NamedTuple

import dill
from hypothesis import given, settings
from hypothesis import strategies as st

from runforrest.graph import Task, defer, dumps, evaluate, loads


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Box:
    inside: Any


@dataclasses.dataclass
class Node:
    left: Any
    right: Any


def digest(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """A value that shows all about the arguments."""
    return ("digest", repr(args), repr(sorted(kwargs.items())))


leaves = st.one_of(st.integers(-3, 3), st.booleans(), st.none(), st.text(max_size=3), st.floats(0, 1))


@st.composite
def graphs(draw: Any) -> tuple[Any, Any]:
    """Deferred, and directly: the same steps on both sides."""
    pool: list[tuple[Any, Any]] = [(value, value) for value in draw(st.lists(leaves, min_size=1, max_size=4))]
    for _ in range(draw(st.integers(1, 12))):
        picked = [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(draw(st.integers(1, 3)))]
        lazy, eager = [each[0] for each in picked], [each[1] for each in picked]
        kind = draw(st.sampled_from(["call", "kwargs", "item", "data", "add", "method", *MAKERS]))
        if kind == "call":
            pool.append((defer(digest, *lazy), digest(*eager)))
        elif kind == "kwargs":
            names = "xyz"[: len(picked)]
            with_names = digest(eager[0], **dict(zip(names, eager, strict=True)))
            pool.append((defer(digest, lazy[0], **dict(zip(names, lazy, strict=True))), with_names))
        elif kind == "item":
            pool.append((defer(digest, *lazy)[1], digest(*eager)[1]))
        elif kind == "data":
            pool.append((defer(lazy), eager))
        elif kind == "add":
            pool.append((defer(digest, *lazy) + (lazy[0],), digest(*eager) + (eager[0],)))  # noqa: RUF005
        elif kind == "method":
            pool.append((defer(digest, *lazy).index("digest"), 0))
        else:
            pool.append((MAKERS[kind](lazy), MAKERS[kind](eager)))
    return pool[-1]


MAKERS = {
    "list": list,
    "tuple": tuple,
    "dict": lambda items: dict(enumerate(items)),
    "ordered": lambda items: OrderedDict(enumerate(items)),
    "deque": deque,
    "pair": lambda items: Pair(items[0], items[-1]),
    "box": lambda items: Box(items[0]),
    "node": lambda items: Node(items[0], items),
}


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_deferred_is_direct(graph: tuple[Any, Any]) -> None:
    lazy, eager = graph
    task = defer(lazy)
    expected = repr(eager)
    assert repr(evaluate(task)) == expected
    for data in (pickle.dumps(task), dill.dumps(task, recurse=True), dumps(task)[0]):
        again = loads(data)
        assert isinstance(again, Task) and again == task
        assert repr(evaluate(again)) == expected
    assert repr(evaluate(task)) == expected

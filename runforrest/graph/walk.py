"""Finding the tasks in arguments at any depth, in an order in which they can be evaluated.

A graph has two sorts of nodes: tasks, and containers that have a task somewhere inside.  Both
are 'something made of operands', so evaluating, pickling and unpickling are each one loop over
the nodes.  Everything else is a plain value and is passed on as it is, containers without tasks
included.  Nothing here recurses: graphs may be deeper than the stack.
"""

from __future__ import annotations

from collections import deque  # loaded in any case: _pickle imports functools, that imports collections
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType

from ..errors import GraphError
from .task import Task, TaskAttribute, TaskCall, TaskItem, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

# What a node is.  The numbers are written into pickles: never change one.
CALL = 0  # fun, *args, *values of kwargs; rest: names of kwargs
DATA = 1  # the value
ATTRIBUTE = 2  # parent, name
ITEM = 3  # parent, key
APPLY = 4  # like CALL, but the function is the value of a task
LIST = 10  # rest: for a subclass (deque included) an empty copy of the container
TUPLE = 11  # rest: the subclass
DICT = 12  # *keys, *values; rest: an empty copy of a subclass
SET = 13  # rest: an empty copy of a subclass
FROZENSET = 14  # rest: the subclass
SLICE = 15  # start, stop, step
OBJECT = 16  # *values of attributes; rest: class, names in __dict__, names in slots

MUTABLE = frozenset({LIST, DICT, SET, OBJECT})

LEAVES = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type, FunctionType, BuiltinFunctionType}
)
_CONTAINERS = (Task, list, tuple, dict, set, frozenset, deque, slice)

# Instead of a position: the node is being visited, or is a container without tasks.
_OPEN, _CLEAN = -1, -2


class Node:
    """A task or container; ``links`` are those of its operands that are nodes themselves."""

    __slots__ = ("kind", "links", "operands", "rest", "source")

    def __init__(self, kind: int, source: Any, operands: list[Any]) -> None:
        self.kind = kind
        self.source = source
        self.operands = operands
        self.rest: Any = None
        self.links: Sequence[tuple[int, int]] = ()  # index of the operand, position of the node


class Graph:
    """Nodes, dependencies first.  In a cyclic graph some containers contain themselves."""

    __slots__ = ("cyclic", "nodes")

    def __init__(self, nodes: list[Node], cyclic: bool) -> None:
        self.nodes = nodes
        self.cyclic = cyclic


def walk(root: Task, known: Mapping[str, Any] | None = None) -> Graph:
    """All that ``root`` depends on; tasks whose id is ``known`` count as data.

    Raises GraphError if a task depends on itself, which takes a container changed afterwards.
    """
    place: dict[str | int, int] = {}  # position of: tasks by their id, containers by id()
    nodes: list[Node] = []
    keys: list[list[tuple[int, str | int]]] = []  # of each node, its operands to visit
    cyclic = False

    stack = [_visit(root, root._id, place, known)]
    while stack:
        node, key, inside, todo = stack[-1]
        for index, child in todo:
            at = place.get(child)
            if at is None:
                stack.append(_visit(node.operands[index], child, place, known))
                break
            if at == _OPEN:
                cyclic = True
        else:
            stack.pop()
            if node.kind < LIST:
                place[key] = len(nodes)
            elif any(place[child] != _CLEAN for _, child in inside):
                place[key] = len(nodes)
                node.rest = _rest(node)
            else:
                place[key] = _CLEAN
                continue
            nodes.append(node)
            keys.append(inside)

    for node, inside in zip(nodes, keys, strict=True):
        if inside:
            node.links = [(index, place[child]) for index, child in inside if place[child] >= 0]
    if cyclic:
        _refuse_circles(nodes)
        nodes = _without_clean(nodes)
        cyclic = any(at >= position for position, node in enumerate(nodes) for _, at in node.links)
    return Graph(nodes, cyclic)



def _visit(
    source: Any, key: str | int, place: dict[str | int, int], known: Mapping[str, Any] | None
) -> tuple[Node, str | int, list[tuple[int, str | int]], Iterator[tuple[int, str | int]]]:
    place[key] = _OPEN
    inside: list[tuple[int, str | int]]
    if known and key in known:
        node, inside = Node(DATA, source, [known[key]]), []  # type: ignore[index]
    else:
        node = take_apart(source)
        inside = insides(node.operands)
    return node, key, inside, iter(inside)


def insides(operands: list[Any]) -> list[tuple[int, str | int]]:
    """Index and key of each operand that is or might contain a task."""
    suspects = {cls for cls in set(map(type, operands)) if cls not in LEAVES and _searchable(cls)}
    if not suspects:
        return []
    return [
        (index, operand._id if isinstance(operand, Task) else id(operand))
        for index, operand in enumerate(operands)
        if type(operand) in suspects
    ]


def _searchable(cls: type) -> bool:
    return issubclass(cls, _CONTAINERS) or hasattr(cls, "__dataclass_fields__")


# -- taking apart --------------------------------------------------------------------------


def take_apart(source: Any) -> Node:
    """The node of a task or container, without ``rest`` for containers (see ``_rest``)."""
    if isinstance(source, Task):
        return _task_node(source)
    if isinstance(source, (list, deque)):
        return Node(LIST, source, list(source))
    if isinstance(source, tuple):
        return Node(TUPLE, source, list(source))
    if isinstance(source, dict):
        return Node(DICT, source, [*source.keys(), *source.values()])
    if isinstance(source, set):
        return Node(SET, source, list(source))
    if isinstance(source, frozenset):
        return Node(FROZENSET, source, list(source))
    if isinstance(source, slice):
        return Node(SLICE, source, [source.start, source.stop, source.step])
    names, slots = attribute_names(source)
    attributes = [source.__dict__[name] for name in names]
    return Node(OBJECT, source, attributes + [getattr(source, name) for name in slots])


def _task_node(task: Task) -> Node:
    if isinstance(task, TaskAttribute):
        return Node(ATTRIBUTE, task, [task._parent, task._index])
    if isinstance(task, TaskItem):
        return Node(ITEM, task, [task._parent, task._index])
    if isinstance(task, TaskCall):
        kind, fun = APPLY, task._parent
    else:
        kind, fun = CALL, task._fun
        if isinstance(fun, Task) or not callable(fun):
            return Node(DATA, task, [fun])
    kwargs = task._kwargs
    if not kwargs:
        return Node(kind, task, [fun, *task._args])
    node = Node(kind, task, [fun, *task._args, *kwargs.values()])
    node.rest = tuple(kwargs)
    return node


def attribute_names(source: Any) -> tuple[list[str], list[str]]:
    """Names of the attributes that an object has in its ``__dict__``, and in slots."""
    slots = []
    for cls in type(source).__mro__:
        for name, member in vars(cls).items():
            if type(member) is MemberDescriptorType and hasattr(source, name) and name not in slots:
                slots.append(name)
    return list(getattr(source, "__dict__", ())), slots


def _rest(node: Node) -> Any:
    """What a container is besides its operands."""
    source, cls = node.source, type(node.source)
    if cls in (list, tuple, dict, set, frozenset, slice):
        return None
    if node.kind in (TUPLE, FROZENSET):
        return cls
    if node.kind == OBJECT:
        return (cls, *attribute_names(source))
    from copy import copy

    empty = copy(source)  # keeps what else it is: a default factory, a maximal length
    empty.clear()
    return empty


# -- putting together ----------------------------------------------------------------------


def assemble(kind: int, rest: Any, operands: list[Any]) -> Any:
    """The container made of ``operands``."""
    if kind in MUTABLE:
        container = shell(kind, rest)
        fill(kind, rest, container, operands)
        return container
    if kind == TUPLE:
        return tuple(operands) if rest is None else tuple.__new__(rest, operands)
    if kind == FROZENSET:
        return frozenset(operands) if rest is None else rest(operands)
    return slice(*operands)


def shell(kind: int, rest: Any) -> Any:
    """A mutable container without its contents."""
    if kind == OBJECT:
        return _bare_object(rest[0])
    if rest is not None:
        return rest
    return [] if kind == LIST else {} if kind == DICT else set()


def _bare_object(cls: Any) -> Any:
    try:
        return object.__new__(cls)
    except TypeError:  # it is an exception, say, and has a memory layout of its own
        return cls.__new__(cls)


def fill(kind: int, rest: Any, container: Any, operands: list[Any]) -> None:
    if kind == LIST:
        container.extend(operands)
    elif kind == SET:
        container.update(operands)
    elif kind == DICT:
        half = len(operands) // 2
        for key, value in zip(operands[:half], operands[half:], strict=True):
            container[key] = value
    else:
        _, names, slots = rest
        if names:
            container.__dict__.update(zip(names, operands, strict=False))
        for name, value in zip(slots, operands[len(names) :], strict=True):
            object.__setattr__(container, name, value)  # the class may be frozen


class Knots:
    """Builds the containers of a cyclic graph.

    Mutable ones exist, empty, from the beginning, so that others can hold them; each one is
    filled, or made if it is immutable, as soon as all immutable ones it needs are there.
    """

    def __init__(self, nodes: list[Node], results: list[Any]) -> None:
        self.nodes = nodes
        self.results = results
        self.there = [node.kind in MUTABLE for node in nodes]
        self.waiting: list[int] = []
        for position, node in enumerate(nodes):
            if node.kind in MUTABLE:
                results[position] = shell(node.kind, node.rest)

    def add(self, position: int) -> None:
        """All nodes before ``position`` have been added."""
        node = self.nodes[position]
        if node.kind < LIST:
            self.there[position] = True
            return
        self.waiting.append(position)
        progress = True
        while progress:
            ready = [at for at in self.waiting if all(self.there[child] for _, child in self.nodes[at].links)]
            self.waiting = [at for at in self.waiting if at not in ready]
            for at in ready:
                self._build(at)
            progress = bool(ready)

    def _build(self, position: int) -> None:
        node = self.nodes[position]
        operands = list(node.operands)
        for index, child in node.links:
            operands[index] = self.results[child]
        if node.kind in MUTABLE:
            fill(node.kind, node.rest, self.results[position], operands)
        else:
            self.results[position] = assemble(node.kind, node.rest, operands)
            self.there[position] = True


# -- circles -------------------------------------------------------------------------------


def _refuse_circles(nodes: list[Node]) -> None:
    """Containers may contain themselves, but no task may be on such a circle.

    ``back[i]`` is the last node that node i leads back to, that is, one that was still being
    visited.  A node from which one gets behind itself is on a circle with it.
    """
    back = [-1] * len(nodes)
    for position, node in enumerate(nodes):
        back[position] = max((max(child, back[child]) for _, child in node.links), default=-1)
        if back[position] >= position and node.kind < LIST:
            raise GraphError(
                f"the call of {label(node.source)} depends on its own result, through a container "
                "that was changed after the call had been deferred"
            )


def _without_clean(nodes: list[Node]) -> list[Node]:
    """Without the containers that only lead to each other, never to a task."""
    parents: list[list[int]] = [[] for _ in nodes]
    for position, node in enumerate(nodes):
        for _, child in node.links:
            parents[child].append(position)
    todo = [position for position, node in enumerate(nodes) if node.kind < LIST]
    kept = set(todo)
    while todo:
        for parent in parents[todo.pop()]:
            if parent not in kept:
                kept.add(parent)
                todo.append(parent)
    moved = {position: index for index, position in enumerate(sorted(kept))}
    for node in nodes:
        node.links = [(index, moved[child]) for index, child in node.links if child in moved]
    return [nodes[position] for position in sorted(kept)]

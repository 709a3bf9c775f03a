"""Graphs to plain data and back, which is how they are pickled: flat.

A graph becomes a text with one row of numbers per node, a text with the ids, and a list of the
plain values, each once.  So neither pickle nor dill (which is pure Python, and takes 1 to 10 us
for each object) meets anything deep, or many objects.

``_load_call`` and ``_load_graph`` are written by name into every task file: keep them.
"""

from __future__ import annotations

import copyreg

from .task import CORE, PartOfTask, Task, TaskAttribute, TaskCall, TaskItem
from .walk import APPLY, ATTRIBUTE, CALL, DATA, ITEM, LIST, Graph, Knots, Node, assemble, insides, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PARTS: dict[int, type[PartOfTask]] = {ATTRIBUTE: TaskAttribute, ITEM: TaskItem, APPLY: TaskCall}


def _reduce(task: Task) -> tuple[Any, ...]:
    """What pickle, dill and deepcopy see of a task."""
    reduced: tuple[Any, ...]
    graph = None if _is_plain_call(task) else walk(task)
    if graph is None or (len(graph.nodes) == 1 and graph.nodes[0].kind == CALL):
        kwargs = (task._kwargs,) if task._kwargs else ()
        reduced = _load_call, (task._id, task._fun, task._args, *kwargs)
    else:
        reduced = _load_graph, _flatten(graph)
    # The rest is state, so that metadata may refer to the task itself.
    further = {name: value for name, value in task.__dict__.items() if name not in CORE}
    return (*reduced, further) if further else reduced


def _is_plain_call(task: Task) -> bool:
    """The usual case, without looking further: a call with no task or container among its arguments."""
    if type(task) is not Task or isinstance(task._fun, Task) or not callable(task._fun):
        return False
    return not insides([task._fun, *task._args, *task._kwargs.values()])


def register() -> None:
    """Tell pickle, dill and copy how tasks are pickled."""
    for cls in (Task, TaskAttribute, TaskItem, TaskCall):
        copyreg.pickle(cls, _reduce)


def _load_call(name: str, fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Task:
    task: Task = object.__new__(Task)
    task._fun = fun
    task._args = args
    task._kwargs = {} if kwargs is None else kwargs
    task._id = name
    return task


def _flatten(graph: Graph) -> tuple[str, str, list[Any]]:
    """Rows (kind, rest, number of operands, operands), ids of the tasks, values.

    An operand is the row of its node, or ~i for value i; ``rest`` is a value, or 0.
    The first number says whether rows refer to later rows.
    """
    program: list[int] = [int(graph.cyclic)]
    ids: list[str] = []
    values: list[Any] = []
    places: dict[object, int] = {}  # of values, by id()

    for node in graph.nodes:
        if node.kind < LIST:
            ids.append(node.source._id)
        rest = 0
        if node.rest is not None:
            # names of arguments are the same for all calls of a function, but not the same object
            rest = ~places.setdefault(node.rest if node.kind < LIST else id(node.rest), len(values))
            if ~rest == len(values):
                values.append(node.rest)
        program += (node.kind, rest, len(node.operands))
        linked = iter([*node.links, (-1, -1)])
        index, child = next(linked)
        for at, operand in enumerate(node.operands):
            if at == index:
                program.append(child)
                index, child = next(linked)
            else:
                place = places.setdefault(id(operand), len(values))
                if place == len(values):
                    values.append(operand)
                program.append(~place)
    return " ".join(map(str, program)), _join_ids(ids), values


def _join_ids(ids: list[str]) -> str:
    """Separated by blanks, and without the prefix where it is that of the id before."""
    texts = []
    last = None
    for name in ids:
        prefix, _, count = name.rpartition("-")
        texts.append(count if prefix == last else f"{prefix}-{count}")
        last = prefix
    return " ".join(texts)


def _split_ids(text: str) -> Iterator[str]:
    last = ""
    for piece in text.split(" "):
        prefix, dash, count = piece.rpartition("-")
        if dash:
            last = prefix + dash if prefix else ""  # RunForrest's ids have no prefix
        yield last + count


def _load_graph(program: str, ids: str, values: list[Any]) -> Task:
    nodes, cyclic = _read_rows(program, values)
    results: list[Any] = [None] * len(nodes)
    knots = Knots(nodes, results) if cyclic else None
    names = _split_ids(ids)
    for position, node in enumerate(nodes):
        if knots and node.kind >= LIST:
            knots.add(position)
            continue
        operands = node.operands
        for index, child in node.links:
            operands[index] = results[child]
        if node.kind < LIST:
            results[position] = _load_task(node.kind, node.rest, operands, next(names))
        else:
            results[position] = assemble(node.kind, node.rest, operands)
        if knots:
            knots.add(position)
    root: Task = results[-1]
    return root


def _read_rows(program: str, values: list[Any]) -> tuple[list[Node], bool]:
    numbers = list(map(int, program.split(" ")))
    nodes: list[Node] = []
    at, end = 1, len(numbers)
    while at < end:
        kind, rest, count = numbers[at : at + 3]
        at += 3
        codes = numbers[at : at + count]
        at += count
        node = Node(kind, None, [None if code >= 0 else values[~code] for code in codes])
        node.links = [(index, code) for index, code in enumerate(codes) if code >= 0]
        if rest:
            node.rest = values[~rest]
        nodes.append(node)
    return nodes, bool(numbers[0])


def _load_task(kind: int, names: tuple[str, ...] | None, operands: list[Any], name: str) -> Task:
    if kind == DATA:
        return _load_call(name, operands[0], ())
    cut = len(operands) - len(names or ())
    kwargs = dict(zip(names, operands[cut:], strict=True)) if names else {}
    if kind == CALL:
        return _load_call(name, operands[0], tuple(operands[1:cut]), kwargs)
    part: PartOfTask = object.__new__(_PARTS[kind])
    part._parent = operands[0]
    part._index = None if kind == APPLY else operands[1]
    part._id = name
    if kind == APPLY:
        part._args, part._kwargs = tuple(operands[1:cut]), kwargs
    return part

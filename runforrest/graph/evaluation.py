"""Running a deferred call and all that it needs, in this process."""

from __future__ import annotations

from .task import Task
from .walk import APPLY, ATTRIBUTE, CALL, DATA, ITEM, LEAVES, LIST, Knots, assemble, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def evaluate(task: Any, known_results: dict[str, Any] | None = None) -> Any:
    """The value of ``task``; what is not a task is returned as it is.

    Each task runs once.  ``known_results`` maps ids of tasks to values: what is in it is not run
    again, and all values are added to it.  Without it, values are dropped after their last use.
    An exception comes through untouched.
    """
    if not isinstance(task, Task):
        return task
    if type(task) is Task and known_results is None and _is_plain(task):
        return task._fun(*task._args, **task._kwargs)
    graph = walk(task, known_results)
    nodes = graph.nodes
    results: list[Any] = [None] * len(nodes)
    knots = Knots(nodes, results) if graph.cyclic else None
    uses = [0] * len(nodes)
    for node in nodes:
        for _, child in node.links:
            uses[child] += 1

    # One function, although it is long: each function here would be one more line in the
    # traceback of every task that fails.
    for position, node in enumerate(nodes):
        kind = node.kind
        if knots and kind >= LIST:
            knots.add(position)
            continue
        operands = node.operands  # a list of this walk's own
        for index, child in node.links:
            operands[index] = results[child]
        if kind in (CALL, APPLY):
            fun, *args = operands
            if node.rest:
                cut = len(args) - len(node.rest)
                value = fun(*args[:cut], **dict(zip(node.rest, args[cut:], strict=True)))
            else:
                value = fun(*args)
            del fun, args
        elif kind == ATTRIBUTE:
            value = getattr(operands[0], operands[1])
        elif kind == ITEM:
            value = operands[0][operands[1]]
        elif kind == DATA:
            value = operands[0]
        else:
            value = assemble(kind, node.rest, operands)
        results[position] = value
        if kind < LIST and known_results is not None:
            known_results[node.source._id] = value
        if knots:
            knots.add(position)
        else:
            for _, child in node.links:
                uses[child] -= 1
                if not uses[child]:
                    results[child] = None
            node.operands = []
        del value, operands
    return results[-1]


def _is_plain(task: Task) -> bool:
    """Whether this is one call without tasks in it, seen without the walk: the usual case."""
    if type(task._fun) not in LEAVES or not callable(task._fun):
        return False
    for value in task._args:
        if type(value) not in LEAVES:
            return False
    return not task._kwargs

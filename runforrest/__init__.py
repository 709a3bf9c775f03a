"""runforrest turns a folder into a cluster: deferred calls as files, claimed by rename, run in
killable process groups.

The names are loaded when they are first used: every child imports this package, and must stay small.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.commands import Command
    from runforrest.errors import RunforrestError
    from runforrest.futures import Executor
    from runforrest.graph import PartOfTask, Task, TaskAttribute, TaskCall, TaskItem, defer, evaluate
    from runforrest.graph.decorator import deferred
    from runforrest.mapping import cached_map
    from runforrest.model.records import Attempt, Envelope
    from runforrest.runs import Run
    from runforrest.tasklist import TaskList

__all__ = ["Attempt", "Command", "Envelope", "Executor", "PartOfTask", "Run", "RunforrestError", "Task",
           "TaskAttribute", "TaskCall", "TaskItem", "TaskList", "cached_map", "defer", "deferred", "evaluate"]

_HOMES = {"Command": "commands", "RunforrestError": "errors", "Attempt": "model.records",
          "Envelope": "model.records", "Run": "runs", "TaskList": "tasklist",
          "deferred": "graph.decorator", "Executor": "futures", "cached_map": "mapping"}


#: names that task files of RunForrest 0.4 refer to
_OLD = ("_identity",)


def __getattr__(name: str) -> object:
    if name not in __all__ and name not in _OLD:
        raise AttributeError(f"module 'runforrest' has no attribute {name!r}")
    from importlib import import_module
    home = "graph.task" if name in _OLD else _HOMES.get(name, "graph")
    value = getattr(import_module(f"runforrest.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

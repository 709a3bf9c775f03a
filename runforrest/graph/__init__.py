"""Deferred calls: building them, finding them in arguments, evaluating them, pickling them.

Pure: no files, no processes, no clocks.  Loaded in every child, so it imports almost nothing.
"""

from __future__ import annotations

from .evaluation import evaluate
from .pickling import dumps, find_unpicklable, loads
from .rebuild import use_session
from .task import PartOfTask, Task, TaskAttribute, TaskCall, TaskItem, defer, label

__all__ = [
    "PartOfTask",
    "Task",
    "TaskAttribute",
    "TaskCall",
    "TaskItem",
    "defer",
    "dumps",
    "evaluate",
    "find_unpicklable",
    "label",
    "loads",
    "use_session",
]

"""A function mapped over arguments, each result kept in a file as soon as it is there.

`Tasker` does it by the ranks of an MPI program, `cached_map` by a task list; `load` and `dump` keep what one has made.

The names are loaded when they are first used: tasks that come from here must stay small.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.mapping.cached import cached_map
    from runforrest.mapping.failures import MapFailed, MapInUse
    from runforrest.mapping.files import about, dump, load
    from runforrest.mapping.tasker import Tasker

__all__ = ["Tasker", "cached_map", "load", "dump", "about", "MapFailed", "MapInUse"]

_HOMES = {"Tasker": "tasker", "cached_map": "cached", "MapFailed": "failures", "MapInUse": "failures",
          "about": "files", "dump": "files", "load": "files"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'runforrest.mapping' has no attribute {name!r}")
    from importlib import import_module
    value = getattr(import_module(f"runforrest.mapping.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

"""How a runner works: what `TaskList.run` and `runforrest run` can set."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder

from runforrest.errors import InvalidArgument
from runforrest.model.limits import GRACE, Limits
from runforrest.process.config import ISOLATIONS


@dataclass
class Options:
    """Checked at once: a bad value raises InvalidArgument before anything runs.

    nprocesses  slots: how many tasks run side by side
    limits      what holds for tasks that say nothing of their own
    isolation   'process': a fresh process per task; 'reuse': a slot's process runs many
    max_tasks   with 'reuse', tasks after which the process is replaced; 0 for never
    preload     modules to import once, before the first task
    session     a dill session file to load before the first task, or ''
    wait        stay when the list is done, for tasks to come
    time_left   seconds until this runner must be gone, as its batch job ends then; None: it may stay
    """

    nprocesses: int = 4
    limits: Limits = field(default_factory=Limits)
    isolation: str = "process"
    max_tasks: int = 0
    preload: Sequence[str] = ()
    session: str = ""
    wait: bool = False
    time_left: float | None = None
    path: list[str] = field(default_factory=lambda: import_path())

    def __post_init__(self) -> None:
        for what, least in (("nprocesses", 1), ("max_tasks", 0)):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidArgument(f"{what} must be a whole number, {least} or more, not {value!r}", argument=what)
        if self.isolation not in ISOLATIONS:
            raise InvalidArgument(f"isolation must be one of {', '.join(ISOLATIONS)}, not {self.isolation!r}",
                                  argument="isolation")
        if self.time_left is not None and not 0 < self.time_left < math.inf:
            raise InvalidArgument(f"time_left must be a positive number of seconds, not {self.time_left!r}",
                                  argument="time_left")
        if not isinstance(self.preload, (list, tuple, set)) or not all(isinstance(m, str) for m in self.preload):
            raise InvalidArgument(f"preload must be a list of module names, not {self.preload!r}", argument="preload")
        for module in self.preload:
            top = module.partition(".")[0]
            known = top in sys.modules or top in sys.builtin_module_names
            if not known and PathFinder.find_spec(top, self.path) is None:
                raise InvalidArgument(f"preload: there is no module {top!r} on the import path", argument="preload")

    @property
    def grace(self) -> float:
        return GRACE if self.limits.grace is None else self.limits.grace


def import_path() -> list[str]:
    """This process's import path, absolute, so that it means the same elsewhere."""
    import os
    return [os.path.abspath(p) for p in sys.path]

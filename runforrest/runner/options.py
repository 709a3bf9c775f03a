"""How a runner works: what `TaskList.run` and `runforrest run` can set."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder

from runforrest.errors import InvalidArgument
from runforrest.model.limits import GRACE, Limits
from runforrest.model.resources import check_tokens
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

    What its tasks may use up together:

    cores       CPU cores; None: one per slot
    gpus        names of GPUs; None: those that are visible here
    host_memory bytes, against the memory limits of the tasks; None: not counted
    tokens      how many there are of each, as ``{"license": 3}``

    What each slot keeps for itself:

    cores_per_slot  CPUs to which its tasks keep, if that is a whole number and there are enough
    split           names of environment variables whose comma-separated values are dealt out to the slots
    split_gpus      deal the visible GPUs out to the slots
    most_tasks      leave when so many tasks were begun; None: never
    leave_when_dry  leave when nothing is left to be begun, also if others are at work still, whose tasks may come back
    """

    nprocesses: int = 4
    limits: Limits = field(default_factory=Limits)
    isolation: str = "process"
    max_tasks: int = 0
    preload: Sequence[str] = ()
    session: str = ""
    wait: bool = False
    time_left: float | None = None
    cores: float | None = None
    gpus: Sequence[str] | None = None
    host_memory: int | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    cores_per_slot: float | None = None
    split: Sequence[str] = ()
    split_gpus: bool = False
    most_tasks: int | None = None
    leave_when_dry: bool = False
    path: list[str] = field(default_factory=lambda: import_path())

    def __post_init__(self) -> None:
        for what, least in (("nprocesses", 1), ("max_tasks", 0), ("most_tasks", 1)):
            value = getattr(self, what)
            if value is None and what == "most_tasks":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidArgument(f"{what} must be a whole number, {least} or more, not {value!r}", argument=what)
        if self.isolation not in ISOLATIONS:
            raise InvalidArgument(f"isolation must be one of {', '.join(ISOLATIONS)}, not {self.isolation!r}",
                                  argument="isolation")
        for what in ("time_left", "cores", "host_memory", "cores_per_slot"):
            value = getattr(self, what)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))
                                      or not 0 < value < math.inf):
                unit = " of seconds" if what == "time_left" else ""
                raise InvalidArgument(f"{what} must be a positive number{unit}, not {value!r}", argument=what)
        check_tokens(self.tokens)
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

"""Where runners are to be started, and with how many slots."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runforrest.engines.start import Start
from runforrest.errors import InvalidArgument

TINY = 1e-9                        # ten tasks of 0.1 cores fit on one
_NOT_IN_NAMES = re.compile(r"[^\w.@+-]")


@dataclass(frozen=True)
class Place:
    """A host, what of it is ours, and how that is divided.

    cores           of the host, for all slots together
    cores_per_task  what tasks are told (DISBATCH_CORES_PER_TASK)
    """

    node: str
    slots: int
    cores: int
    cores_per_task: int


def fitting(cores: int, each: float) -> int:
    """How many tasks of so many cores each fit on these."""
    return math.floor(cores / each + TINY)


def starts(places: Sequence[Place], directory: str, prefix: str, label: str, arguments: Sequence[str] = (),
           environment: Mapping[str, str] | None = None, first_rank: int = 0, python: str = sys.executable,
           cwd: str | None = None) -> list[Start]:
    """A runner for each place; their logs are ``PREFIX_LABEL_NODE_RANK.log``."""
    found = []
    for rank, place in enumerate(places, first_rank):
        variables = {"DISBATCH_CORES_PER_TASK": str(place.cores_per_task), **(environment or {})}
        found.append(Start(directory, place.slots, rank, log_file(prefix, label, place.node, rank), place.node,
                           arguments, variables, python, cwd or os.getcwd()))
    return found


def log_file(prefix: str, label: str, node: str, rank: int) -> str:
    return f"{prefix}_{_NOT_IN_NAMES.sub('_', label)}_{_NOT_IN_NAMES.sub('_', node)}_{rank}.log"


def some(places: Sequence[Place], warn: Callable[[str], None]) -> list[Place]:
    """Those with slots, if there are any.  Raises InvalidArgument if there are none."""
    found = [place for place in places if place.slots > 0]
    if not found:
        raise InvalidArgument(f"no slots: {', '.join(map(_why, places)) or 'no host is named'}", argument="places")
    for place in places:
        if place.slots <= 0:
            warn(f"no slots on {place.node}, so no runner is started there: {_why(place)}")
    return found


def _why(place: Place) -> str:
    return f"{place.node} has {place.cores} cores, fewer than one task takes"

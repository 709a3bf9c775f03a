"""What people and programs read of a task: how it was scheduled, and how its attempts ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

R = TypeVar("R", bound="_Record")


@dataclass(frozen=True)
class _Record:
    @classmethod
    def from_json(cls: type[R], found: dict[str, Any]) -> R:
        """Out of a record in a task's file; fields that this version does not know are ignored."""
        known = cls.__dataclass_fields__
        return cls(**{k: v for k, v in found.items() if k in known})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Attempt(_Record):
    """One execution of a task.

    outcome     returned, raised, timed_out, crashed, out_of_memory, lost, cancelled or unloadable
    number      which claim of the task it was; ``attempt``: the same with its tag, as in the file name
    exit_code   of the process, if it ended by itself without a result; ``signal``: the name of the signal
    runtime     seconds that the call itself took; ``duration``: the attempt with loading and saving
    cpu         seconds of CPU time; ``peak_bytes``: the most memory one of its processes held, or all
                of them together where a limit is watched
    error       class of the exception; ``message``: its text, or what happened; ``traceback``: as text
    output      what it printed, or the end of that; ``output_bytes``: how much there was
    log         the file in the task list that has the whole output, if it is not here
    errors, errors_bytes, errors_log
                the same of what a command wrote to standard error; ``output`` is then its standard output
    """

    outcome: str = ""
    number: int = 0
    attempt: str = ""
    host: str = ""
    runner: str = ""
    pid: int | None = None
    started: str = ""
    ended: str = ""
    runtime: float | None = None
    duration: float | None = None
    cpu: float | None = None
    peak_bytes: int | None = None
    exit_code: int | None = None
    signal: str | int | None = None
    error: str = ""
    message: str = ""
    traceback: str = ""
    output: str = ""
    output_bytes: int = 0
    log: str = ""
    errors: str = ""
    errors_bytes: int = 0
    errors_log: str = ""


@dataclass(frozen=True)
class Envelope(_Record):
    """How a task was scheduled.

    name      what the user called it; ``label``: the function's name
    scheduled when, ISO 8601 UTC; on ``host`` with ``python``, in the folder ``cwd``
    limits    what was set for this task; see `runforrest.model.limits.Limits`
    group     of tasks that others may wait for;  ``after``: the gate that it waits, or has waited, at
    """

    id: str = ""
    name: str = ""
    label: str = ""
    scheduled: str = ""
    host: str = ""
    pid: int | None = None
    user: str = ""
    python: str = ""
    serializer: str = ""
    dill: str = ""
    cwd: str = ""
    chdir: str = ""
    priority: int = 0
    limits: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str | None] = field(default_factory=dict)
    group: str = ""
    after: dict[str, Any] = field(default_factory=dict)
    metadata: Any = None

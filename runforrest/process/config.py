"""What a runner tells its fork server once, at the start.  Loaded in every child."""

from __future__ import annotations

import json

from runforrest.folder.trust import Trust
from runforrest.model.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ISOLATIONS = ("process", "reuse")


class Config:
    """The same for every slot of a runner.

    root       the task list's folder; ``runner``: the runner's name there; ``host``: this host's name
    isolation  'process': a fork per task; 'reuse': a slot's child runs many
    max_tasks  tasks after which a reused child is replaced; 0 for never
    limits     what holds where a task says nothing
    path       the runner's import path; ``preload``: modules to import before the first fork
    session    a dill session to load before the first fork, or ''
    trust      whose files may be unpickled
    shares     what each slot keeps for all its tasks: the CPUs that they may use ([] for any), and variables
    """

    __slots__ = ("host", "isolation", "limits", "max_tasks", "path", "preload", "root", "runner", "session",
                 "shares", "trust")

    def __init__(self, root: str, runner: str, host: str, isolation: str = "process", max_tasks: int = 0,
                 limits: Limits | None = None, path: list[str] | None = None, preload: list[str] | None = None,
                 session: str = "", trust: Trust | None = None,
                 shares: list[tuple[list[int], dict[str, str]]] | None = None) -> None:
        self.root, self.runner, self.host = root, runner, host
        self.isolation, self.max_tasks = isolation, max_tasks
        self.limits = limits or Limits()
        self.path, self.preload, self.session = path or [], preload or [], session
        self.trust = trust or Trust()
        self.shares = shares or []

    def dumps(self) -> str:
        found: dict[str, Any] = {field: getattr(self, field) for field in Config.__slots__}
        return json.dumps({**found, "limits": self.limits.to_json(), "trust": self.trust.to_json()})

    @classmethod
    def loads(cls, text: str) -> Config:
        found = json.loads(text)
        return cls(**{**found, "limits": Limits.from_json(found["limits"]),
                      "trust": Trust.from_json(found["trust"])})

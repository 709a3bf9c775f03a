"""What a task finds around it: import path, working directory, environment.  Loaded in every child."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.folder.stored import StoredTask
    from runforrest.process.config import Config

    Seen = tuple[dict[bytes, bytes], list[str], str]
    #: CPUs and variables that one task was granted
    Grant = tuple[list[int], dict[str, str]] | None


class Surroundings:
    """Import path, working directory and environment of tasks, set before the fork where there is one.

    Most tasks of a list share them, so there is mostly nothing to do.
    """

    def __init__(self, config: Config, slot: int = 0) -> None:
        self.config = config
        os.environ.update(RUNFORREST_RUNNER=config.runner, RUNFORREST_SLOT=str(slot))
        if "DISBATCH_ENGINE_RANK" in os.environ:        # of a batch: disBatch's name for a slot
            os.environ["DISBATCH_CYLINDER_RANK"] = str(slot)
        if slot < len(config.shares):
            cpus, env = config.shares[slot]
            os.environ.update(env)
            if cpus:
                _keep_to(cpus)
        self._cpus = _cpus()
        self._path = list(sys.path)
        self._current: tuple[object, ...] = (None, None, None)
        self._changed: dict[str, str | None] = {}       # what variables were before a task changed them
        self._kept = False                              # to some of the CPUs, by a grant
        os.environ["RUNFORREST_DIR"] = config.root

    def enter(self, task: StoredTask, grant: Grant = None) -> None:
        """Prepare for this task.  Raises OSError if the working directory that it asks for is not there."""
        envelope = task.envelope
        cpus, granted = grant or ([], {})
        os.environ["RUNFORREST_TASK"] = task.name.id
        os.environ["RUNFORREST_ATTEMPT"] = task.name.attempt
        path, directory, env = envelope.get("path"), envelope.get("chdir"), envelope.get("env")
        wanted = (path, directory or envelope.get("cwd"), env, grant)
        if wanted == self._current:
            return
        self._current = (None, None, None)
        sys.path[:] = [*path, *(p for p in self._path if p not in path)] if path else self._path
        self._set_environment({**granted, **(env or {})})
        if cpus or self._kept:
            _keep_to(cpus or self._cpus)
            self._kept = bool(cpus)
        if directory:                                   # asked for: must be there
            os.chdir(directory)
        else:
            try:
                os.chdir(envelope.get("cwd") or self.config.root)
            except OSError:                             # scheduled on another host
                os.chdir(self.config.root)
        self._current = wanted

    def seen(self) -> Seen:
        """What a task finds, for `restore`."""
        return dict(os.environb), list(sys.path), _directory()

    def restore(self, seen: Seen) -> None:
        """After a task in a process that is used again: undo what the task itself has changed."""
        environ, path, directory = seen
        if os.environb != environ:
            os.environb.clear()
            os.environb.update(environ)
        if sys.path != path:
            sys.path[:] = path
        if _directory() != directory:
            self._current = (None, None, None)          # the next task sets it anew

    def _set_environment(self, env: dict[str, str | None]) -> None:
        update_environment(self._changed)
        self._changed = {key: os.environ.get(key) for key in env}
        update_environment(env)


def _cpus() -> list[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:                              # macOS
        return []


def _keep_to(cpus: list[int]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except (AttributeError, OSError):                   # not here, or not these any more
        pass


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:                                     # it was removed
        return ""


def update_environment(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value

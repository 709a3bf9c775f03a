"""What a task finds around it: import path, working directory, environment.  Loaded in every child."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.folder.stored import StoredTask
    from runforrest.process.config import Config

    Seen = tuple[dict[bytes, bytes], list[str], str]


class Surroundings:
    """Import path, working directory and environment of tasks, set before the fork where there is one.

    Most tasks of a list share them, so there is mostly nothing to do.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._path = list(sys.path)
        self._current: tuple[object, ...] = (None, None, None)
        self._changed: dict[str, str | None] = {}       # what variables were before a task changed them
        os.environ["RUNFORREST_DIR"] = config.root

    def enter(self, task: StoredTask) -> None:
        """Prepare for this task.  Raises OSError if the working directory that it asks for is not there."""
        envelope = task.envelope
        os.environ["RUNFORREST_TASK"] = task.name.id
        os.environ["RUNFORREST_ATTEMPT"] = task.name.attempt
        path, directory, env = envelope.get("path"), envelope.get("chdir"), envelope.get("env")
        wanted = (path, directory or envelope.get("cwd"), env)
        if wanted == self._current:
            return
        self._current = (None, None, None)
        sys.path[:] = [*path, *(p for p in self._path if p not in path)] if path else self._path
        self._set_environment(env or {})
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

"""Arguments as people give them: numbers of any library, and a clear error for what can't be meant."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from typing import Any

from runforrest.errors import InvalidArgument
from runforrest.model.names import MAX_PRIORITY


def plain(value: Any) -> Any:
    """Numbers of numpy and the like as Python's own; everything else as it is."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return float(value) if hasattr(value, "__float__") else value


def check_path(path: Any, argument: str) -> str:
    """A path as a text.  Raises InvalidArgument; for an empty one, too, which would be the current folder."""
    if not isinstance(path, (str, bytes, os.PathLike)) or not os.fspath(path) or "\0" in os.fsdecode(path):
        raise InvalidArgument(f"{argument} must be a path, not {path!r:.60}", argument=argument)
    return os.fsdecode(path)


def check_schedule(priority: int, name: str | None, env: Mapping[str, str | None] | None,
                   cwd: str | os.PathLike[str] | None) -> None:
    """Raises InvalidArgument for what `TaskList.schedule` can't do with these."""
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
        raise InvalidArgument(f"priority must be a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}, "
                              f"not {priority!r}", argument="priority")
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidArgument(f"name must be a text, not {name!r}", argument="name")
    if cwd is not None and not isinstance(cwd, (str, bytes, os.PathLike)):
        raise InvalidArgument(f"cwd must be a path, not {cwd!r}", argument="cwd")
    if env is not None and not isinstance(env, Mapping):
        raise InvalidArgument(f"env must be a dict of names and texts, not {env!r:.60}", argument="env")
    for key, value in (env or {}).items():
        if not isinstance(key, str) or not isinstance(value, (str, type(None))) or not key or "=" in key \
                or "\0" in key + (value or ""):
            raise InvalidArgument(f"env must map names to texts, not {key!r} to {value!r}", argument="env")


def check_line(line: object) -> str:
    """A command line.  Raises InvalidArgument."""
    if not isinstance(line, str) or not line.strip() or "\0" in line:
        raise InvalidArgument(f"a command must be a text that is not empty, not {line!r:.60}", argument="line")
    return line

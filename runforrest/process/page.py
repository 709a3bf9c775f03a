"""A page of memory that a guard shares with its child: how far the child is, and its last word.

No descriptor, so a task that closes all of its own cannot cut it; no system call, so it costs nothing.
The child's exit code proves nothing (the task may call ``os._exit(0)``): only ``COMPLETE`` here, or an
intact frame in the task's file, says that the result was written.  Loaded in every child.
"""

from __future__ import annotations

import json
import mmap
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IDLE, LOADING, RUNNING, WRITING, COMPLETE = range(5)
SIZE = 8192
_STATE, _LIMITS, _CURRENT, _SUMMARY = 0, 8, 64, 2048
_limits = struct.Struct("<ddd")
_length = struct.Struct("<I")


class Page:
    """State, deadline, current task and summary of the child of one slot."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SIZE)

    def reset(self) -> None:
        self._map[:64] = bytes(64)

    @property
    def state(self) -> int:
        return self._map[_STATE]

    @state.setter
    def state(self, state: int) -> None:
        self._map[_STATE] = state

    def limit(self, deadline: float | None, grace: float, memory: int | None) -> None:
        """What the guard enforces: the end on the monotonic clock, seconds from TERM to KILL, bytes."""
        _limits.pack_into(self._map, _LIMITS, deadline or 0.0, grace, memory or 0)

    def limits(self) -> tuple[float | None, float, int | None]:
        deadline, grace, memory = _limits.unpack_from(self._map, _LIMITS)
        return deadline or None, grace, int(memory) or None

    def begin(self, current: dict[str, Any]) -> None:
        """What is about to run (for a child that runs many)."""
        self.reset()
        self._put(_CURRENT, _SUMMARY, current)
        self.state = LOADING

    def current(self) -> dict[str, Any]:
        return self._get(_CURRENT)

    def complete(self, summary: dict[str, Any]) -> None:
        """The frame is in the file; first the words, then the state that vouches for them."""
        self._put(_SUMMARY, SIZE, summary)
        self.state = COMPLETE

    def summary(self) -> dict[str, Any]:
        return self._get(_SUMMARY)

    def _put(self, start: int, stop: int, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        if len(text) > stop - start - _length.size:
            text = json.dumps({k: v for k, v in value.items() if len(str(v)) < 200}).encode()
        _length.pack_into(self._map, start, len(text))
        self._map[start + _length.size:start + _length.size + len(text)] = text

    def _get(self, start: int) -> dict[str, Any]:
        (length,) = _length.unpack_from(self._map, start)
        found: dict[str, Any] = json.loads(self._map[start + _length.size:start + _length.size + length])
        return found

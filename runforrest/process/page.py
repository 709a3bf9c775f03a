"""A page of memory that a guard shares with its child: how far the child is, and its last word.

No descriptor, so a task that closes all of its own cannot cut it; no system call, so it costs nothing.
The child's exit code proves nothing (the task may call ``os._exit(0)``): only ``COMPLETE`` here, or an
intact frame in the task's file, says that the result was written.  Loaded in every child.
"""

from __future__ import annotations

import mmap
import struct

IDLE, LOADING, RUNNING, WRITING, COMPLETE, LEFT = range(6)
SIZE = 12288
_STATE, _WAITS, _LIMITS, _CURRENT, _REPORT = 0, 1, 8, 64, 4096
_limits = struct.Struct("<ddd")
_length = struct.Struct("<I")


class Page:
    """State, deadline, current task and report of the child of one slot."""

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

    @property
    def waits(self) -> int:
        """Why the result can't be written at present: an errno; 0 if it is not waiting."""
        return self._map[_WAITS]

    @waits.setter
    def waits(self, code: int) -> None:
        self._map[_WAITS] = code

    def limit(self, deadline: float | None, grace: float, memory: int | None) -> None:
        """What the guard enforces: the end on the monotonic clock, seconds from TERM to KILL, bytes."""
        _limits.pack_into(self._map, _LIMITS, deadline or 0.0, grace, memory or 0)

    def limits(self) -> tuple[float | None, float, int | None]:
        deadline, grace, memory = _limits.unpack_from(self._map, _LIMITS)
        return deadline or None, grace, int(memory) or None

    def begin(self, path: bytes) -> None:
        """Which file is about to be run (for a child that runs many)."""
        self.reset()
        self._put(_CURRENT, _REPORT, path)
        self.state = LOADING

    def current(self) -> bytes:
        return self._get(_CURRENT)

    def complete(self, report: bytes) -> None:
        """The frame is in the file; first the words, then the state that vouches for them."""
        self._put(_REPORT, SIZE, report)
        self.state = COMPLETE

    def leave(self, grant: bytes) -> None:
        """The task is one for a child of its own, with this grant: the one that runs many does without it."""
        self._put(_REPORT, SIZE, grant)
        self.state = LEFT

    def report(self) -> bytes:
        return self._get(_REPORT)

    def _put(self, start: int, stop: int, text: bytes) -> None:
        if len(text) > stop - start - _length.size:
            raise ValueError(f"{len(text)} bytes do not fit onto the page")
        _length.pack_into(self._map, start, len(text))
        self._map[start + _length.size:start + _length.size + len(text)] = text

    def _get(self, start: int) -> bytes:
        (length,) = _length.unpack_from(self._map, start)
        return self._map[start + _length.size:start + _length.size + length]

"""When to ask a task to end, and when to make it: TERM at its deadline, KILL a grace later.

Pure: told the time, it says what is due.  Loaded in every child.
"""

from __future__ import annotations

TERM, KILL = "term", "kill"
REKILL = 1.0                       # seconds until KILL is repeated, for what was born meanwhile


class Ladder:
    """One attempt's way down.  Times are seconds on a monotonic clock."""

    __slots__ = ("_kill_at", "_termed", "deadline", "grace", "reason")

    def __init__(self, deadline: float | None, grace: float) -> None:
        self.deadline, self.grace = deadline, grace
        self.reason = ""                       # why it was ended, once it was
        self._termed = False
        self._kill_at: float | None = None

    def end(self, reason: str, now: float, grace: float | None = None) -> None:
        """End it for this reason, from now on; a shorter grace than before counts."""
        if not self.reason:
            self.reason = reason
        kill_at = now + (self.grace if grace is None else grace)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def due(self, now: float) -> str:
        """What is to be done now: 'term', 'kill' or ''."""
        if not self.reason and self.deadline is not None and now >= self.deadline:
            self.end("timed_out", now)
        if self._kill_at is None:
            return ""
        if now >= self._kill_at:
            self._kill_at = now + REKILL
            self._termed = True
            return KILL
        if not self._termed:
            self._termed = True
            return TERM
        return ""

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None for never."""
        if self._kill_at is not None:
            return max(0.0, self._kill_at - now) if self._termed else 0.0
        return None if self.deadline is None else max(0.0, self.deadline - now)

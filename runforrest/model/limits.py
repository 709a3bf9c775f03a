"""What a task may use, and how often it may be tried again.  Loaded in every child."""

from __future__ import annotations

from runforrest.errors import InvalidArgument
from runforrest.model import outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: seconds from TERM to KILL
GRACE = 5.0
CRASH_LIMIT = 3
BACKOFF = 0.5
MAX_BACKOFF = 300.0
_ENDLESS = (float("inf"), float("-inf"))


class Limits:
    """The limits of one task.  None means: as the runner says; there, none at all.

    timeout      seconds that an attempt may run
    grace        seconds between TERM and KILL
    memory       bytes that the task's processes may hold together
    retries      further attempts after an attempt that raised or timed out: a number, or a
                 number by outcome, as ``{"timed_out": 2}``
    crash_limit  attempts that may crash, run out of memory or be lost before the task fails
    backoff      seconds to the second attempt; doubles each time, with jitter, up to five minutes
    estimate     seconds that an attempt is expected to run; no limit, but a runner with less time left
                 does not start it
    """

    __slots__ = ("backoff", "crash_limit", "estimate", "grace", "memory", "retries", "timeout")

    def __init__(self, timeout: float | None = None, grace: float | None = None, memory: int | None = None,
                 retries: int | Mapping[str, int] | None = None, crash_limit: int | None = None,
                 backoff: float | None = None, estimate: float | None = None) -> None:
        self.timeout = _number("timeout", timeout, above=0)
        self.grace = _number("grace", grace)
        self.memory = None if memory is None else int(_number("memory", memory, above=0) or 0)
        self.retries = _retries(retries)
        self.crash_limit = _count("crash_limit", crash_limit, 1)
        self.backoff = _number("backoff", backoff)
        self.estimate = _number("estimate", estimate)

    def or_else(self, other: Limits) -> Limits:
        """These limits, and the other's where these say nothing."""
        merged = Limits.__new__(Limits)
        for field in Limits.__slots__:
            mine = getattr(self, field)
            setattr(merged, field, getattr(other, field) if mine is None else mine)
        return merged

    def to_json(self) -> dict[str, Any]:
        """Only what was set."""
        return {field: getattr(self, field) for field in Limits.__slots__ if getattr(self, field) is not None}

    @classmethod
    def from_json(cls, found: object) -> Limits:
        """Limits out of a record; what is unknown or malformed there counts as not set."""
        limits = cls()
        if found and isinstance(found, dict):
            for field in cls.__slots__:
                if found.get(field) is None:
                    continue
                try:
                    setattr(limits, field, getattr(cls(**{field: found[field]}), field))
                except (InvalidArgument, TypeError, OverflowError):
                    continue
        return limits

    @property
    def needed(self) -> float | None:
        """Seconds that an attempt takes, as far as that is known: the estimate, or else the timeout."""
        return self.timeout if self.estimate is None else self.estimate

    def allows_another(self, outcome: str, counts: Mapping[str, int]) -> bool:
        """Whether a task whose attempts ended as counted, the last one with ``outcome``, may try again."""
        if outcome in outcomes.CRASHES:
            limit = CRASH_LIMIT if self.crash_limit is None else self.crash_limit
            return sum(counts.get(o, 0) for o in outcomes.CRASHES) < limit
        if outcome not in outcomes.RETRIED or self.retries is None:
            return False
        if isinstance(self.retries, int):
            return sum(counts.get(o, 0) for o in outcomes.RETRIED) <= self.retries
        return counts.get(outcome, 0) <= self.retries.get(outcome, 0)

    def delay(self, failures: int, jitter: float) -> float:
        """Seconds to wait after this many failed attempts; ``jitter`` is a random number in [0, 1)."""
        base = BACKOFF if self.backoff is None else self.backoff
        return float(min(MAX_BACKOFF, base * 2.0 ** min(failures - 1, 30)) * (0.5 + jitter))


def _number(what: str, value: Any, above: float | None = None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in _ENDLESS:
        raise InvalidArgument(f"{what} must be a number of {'bytes' if what == 'memory' else 'seconds'}, "
                              f"not {value!r}; leave it out for no limit", argument=what)
    if value < 0 or (above is not None and value <= above):
        raise InvalidArgument(f"{what} must be {'positive' if above is not None else 'zero or more'}, "
                              f"not {value!r}; leave it out for no limit", argument=what)
    return float(value)


def _count(what: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{what} must be a whole number, {least} or more, not {value!r}", argument=what)
    return value


def _retries(value: Any) -> int | dict[str, int] | None:
    if value is None or isinstance(value, int):
        return _count("retries", value, 0)
    try:
        pairs = dict(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"retries must be a number, or a number by outcome, not {value!r}",
                              argument="retries") from None
    for outcome, count in pairs.items():
        if outcome not in outcomes.RETRIED:
            raise InvalidArgument(f"retries can be given for {' and '.join(outcomes.RETRIED)}, not for {outcome!r}; "
                                  f"crashes are limited by crash_limit", argument="retries")
        if _count(f"retries[{outcome!r}]", count, 0) is None:
            raise InvalidArgument(f"retries[{outcome!r}] must be a whole number, 0 or more, not None",
                                  argument="retries")
    return pairs

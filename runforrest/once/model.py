"""What keys are made of: their states, claims, and what a place to keep them must be able to do."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from runforrest.errors import InvalidArgument
from runforrest.once.errors import UnfitKeys

LONGEST_KEY = 1024                 # bytes


class Status(enum.Enum):
    """How a call of a function under `distributed_task` came out."""

    COMPUTE_OK = 1
    COMPUTE_ERROR = 2
    SKIP_OK = 3
    SKIP_IN_PROGRESS = 4


class Condition(enum.Enum):
    """What becomes of a key.  ``PERMANENT``: handed out with timeout 0, so it counts as done from the claim on."""

    IN_PROGRESS = "in_progress"
    EXPIRED = "expired"
    PERMANENT = "permanent"
    DONE = "done"

    @property
    def success(self) -> bool:
        return self in (Condition.PERMANENT, Condition.DONE)


class Claim(NamedTuple):
    """The right to a key.  It can be pickled, and used in another process.

    token    grows with every claim of the key
    ref      what the store knows it by
    timeout  seconds; 0: permanent at once; None: while the owner's heart beats
    """

    key: str
    token: int
    ref: str
    timeout: float | None


class Entry(NamedTuple):
    """A key as it was found.

    token, ref, timeout  of the last claim, as in `Claim`
    owner                who claimed it last
    since                when that was, in seconds of the Unix epoch, by the store's clock
    has_value            whether a value is stored with it
    """

    key: str
    condition: Condition
    token: int
    ref: str
    timeout: float | None
    owner: str
    since: float
    has_value: bool

    @property
    def claim(self) -> Claim:
        return Claim(self.key, self.token, self.ref, self.timeout)


class KeyStore(Protocol):
    """A place where keys live.

    All methods raise OSError, or `Unreachable`, for trouble that may pass; asking again is always right.

    url    where it is, to be shown
    given  with what `open_store` opens it: path or URL, which may hold a password; trust; group
    """

    url: str
    given: tuple[str, bool, bool]

    def claim(self, key: str, timeout: float | None, owner: str, force: bool = False) -> tuple[Claim | None,
                                                                                                Entry | None]:
        """(the claim or None, what was there before or is there now).  ``force``: whatever its state."""

    def claim_any(self, keys: Sequence[str], timeout: float | None, owner: str) -> tuple[Claim | None, int, bool]:
        """Claim the first of these that is to be had.

        Returns (the claim or None, how many were not to be had before it, whether others are just taking them); it may
        end where others are, before the last one was tried.
        """

    def confirm(self, claim: Claim, value: bytes | None = None, report: str = "") -> None:
        """Make it done, with a value, also that of a claim with timeout 0.  Raises ClaimLost, AlreadyDone.

        report  a random word: asked again with the same one, after an error, it is no second success
        """

    def release(self, claim: Claim) -> bool:
        """Give it back; False if it is not this claim's any more."""

    def look(self, key: str) -> Entry | None:
        """The key's entry; None if nobody has it, and it is not done."""

    def value(self, key: str) -> bytes | None:
        """The value that is stored with a key; None if there is none.  Raises Untrusted."""

    def forget(self, key: str) -> None:
        """Make a key free, whatever its state."""

    def entries_of(self, keys: Sequence[str]) -> Iterator[Entry]:
        """Of these keys, those that somebody has, or that are done; in any order."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All keys with this prefix, in any order."""

    def refresh(self) -> None:
        """Look anew: forget what is only remembered of keys."""

    def pickles(self) -> str:
        """'' if values from here may be unpickled; else why not, and what to do."""

    def close(self) -> None:
        """Leave: what this process holds by its heartbeat is free for others."""


class Unreachable(Exception):
    """The store could not be reached; that may pass."""


def is_ascii(s: str) -> bool:
    """Whether there are only ASCII characters in it."""
    return s.isascii()


def check_key(key: object) -> str:
    """The key, if it is a text of 1 to 1024 bytes.  Raises UnfitKeys."""
    if not isinstance(key, str):
        raise UnfitKeys(f"a key must be a str, not {key!r:.60}", argument="key")
    length = len(key.encode("utf-8", "surrogatepass"))
    if not 0 < length <= LONGEST_KEY:
        raise UnfitKeys(f"a key must have 1 to {LONGEST_KEY} bytes, this one has {length}: {key!r:.60}", argument="key")
    return str(key)


def check_prefix(prefix: object) -> str:
    """What keys are to begin with.  Raises UnfitKeys."""
    if not isinstance(prefix, str):
        raise UnfitKeys(f"key_prefix must be a str, not {prefix!r:.60}; '' for all keys", argument="key_prefix")
    return prefix


def check_timeout(timeout: object, heartbeat: bool = False, argument: str = "timeout") -> float | None:
    """Seconds, or None if the claim lasts while the heart beats.  Raises InvalidArgument.

    argument  what the caller calls the timeout
    """
    if heartbeat:
        if timeout:
            raise InvalidArgument("give a timeout or heartbeat=True, not both", argument="timeout")
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < 1e10:
        hint = "; heartbeat=True needs none" if argument == "timeout" else ""
        raise InvalidArgument(f"{argument} must be seconds, 0 or more, not {timeout!r:.40}{hint}", argument=argument)
    return float(timeout)

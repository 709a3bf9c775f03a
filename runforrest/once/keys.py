"""Keys in the hands of the program that has claimed them, and reporting what became of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from runforrest.folder.attempts import new_tag
from runforrest.folder.identity import hostname
from runforrest.once import values
from runforrest.once.errors import AlreadyDone, UnfitKeys, UnknownKey
from runforrest.once.log import log
from runforrest.once.model import Claim, Condition, KeyStore, check_key, check_prefix, check_timeout
from runforrest.once.stores import Where, opened, patiently, settled, store

_NONE = object()
_claims: dict[tuple[str, str], Claim] = {}     # of this process, by store and key: for who passes on mere text


class Key(str):
    """A claimed key: its text, as it is stored, and the claim.

    It can be pickled and used in another process.  As a context manager it makes the key done at the end of the
    block, and free again if an exception leaves it, also SystemExit and KeyboardInterrupt.

    original  the key as it was given, without its version
    version   the version that was given
    token     grows with every claim of this key: pass it on to whatever must refuse a late owner
    value     set it in the block, and it is stored with the key
    """

    original: str | int
    version: int
    claim: Claim
    where: Where
    value: Any

    def __new__(cls, claim: Claim, original: str | int, version: int = 0, where: Where = None) -> Key:
        self = super().__new__(cls, claim.key)
        self.original, self.version, self.claim, self.where = original, version, claim, where
        self.value = _NONE
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        where = self.where if isinstance(self.where, (str, os.PathLike, type(None))) else self.where.given
        return _unpickled, (self.claim, self.original, self.version, where)

    @property
    def token(self) -> int:
        return self.claim.token

    def __enter__(self) -> Key:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if kind is None:
            self.succeed()
        else:
            notify_failure(self, store=self.where)

    def succeed(self) -> None:
        """Report success, with the value if there is one.  A claim with timeout 0 is done already: it takes a value."""
        if self.claim.timeout != 0 or self.value is not _NONE:
            notify_success(self, value=self.value, store=self.where)

    def is_mine(self) -> bool:
        """Whether the claim still holds: a long task may ask before it does what can't be undone."""
        place = store(self.where)
        now = patiently(lambda: place.look(self.claim.key), f"looking at {self!s}")
        return now is not None and now.ref == self.claim.ref and not now.condition.success


def _unpickled(claim: Claim, original: str | int, version: int, where: Any) -> Key:
    return Key(claim, original, version, opened(*where) if isinstance(where, tuple) else where)


def worker_name() -> str:
    """``host_pid_ppid``: what a claim is marked with."""
    return f"{hostname()}_{os.getpid():05d}_{os.getppid():05d}"


def make_versioned_key(key: str, version: int) -> str:
    """``key_v007`` for version 7; the key itself for version 0.  Raises UnfitKeys."""
    check_key(key)
    if isinstance(version, bool) or not isinstance(version, int):
        raise UnfitKeys(f"version must be an int, not {version!r:.40}", argument="version")
    return key if version == 0 else f"{key}_v{version:03d}"


def take(key: str, timeout: float = 0, version: int = 0, *, heartbeat: bool = False, store: Where = None) -> Key | None:
    """Claim one key; None if it is done, or somebody else has it.  ``with key:`` ends the claim.

    timeout    seconds after which others may take it over; 0: it is done from now on
    heartbeat  it is this process's until it is reported, released, or the process is dead
    """
    place, seconds = _place(store), check_timeout(timeout, heartbeat)
    text = check_key(make_versioned_key(key, version))
    claim, _ = patiently(lambda: place.claim(text, seconds, worker_name()), f"claiming {key!r}")
    return claimed(claim, key, version, store) if claim else None


def claimed(claim: Claim, original: str | int, version: int, where: Where) -> Key:
    """The key of a claim, which is remembered for a report that names only the text; one with timeout 0 needs none."""
    if claim.timeout != 0:
        _claims[_place(where).url, claim.key] = claim
    return Key(claim, original, version, settled(where))


def _place(where: Where) -> KeyStore:
    return store(where)


def notify_success(key: str, assert_unique: bool = True, *, value: Any = _NONE, store: Where = None) -> None:
    """Report that a key is done, for good.

    value  is stored with it, and given to whoever finds it done

    A claim that had expired, and that somebody else has taken over, is refused.  Raises ClaimLost; AlreadyDone (unless
    ``assert_unique`` is False), UnknownKey.
    """
    where = getattr(key, "where", None) if store is None else store
    place = _place(where)
    claim = _claim_of(key, place)
    data = None if value is _NONE else _encoded(value, claim, place)
    try:
        if claim is None:
            claim = _claim_of_others(key, place)
        wanted, report = claim, new_tag(6)
        patiently(lambda: place.confirm(wanted, data, report), f"reporting success of {key!s}")
    except AlreadyDone:
        if assert_unique:
            raise
    finally:
        _claims.pop((place.url, str(key)), None)


def _encoded(value: Any, claim: Claim | None, place: KeyStore) -> bytes:
    """The value as bytes; if that can't be, the key is given back, as its work is lost."""
    try:
        return values.encode(value)
    except Exception:
        if claim:
            patiently(lambda: place.release(claim), f"giving back {claim.key!r}")
        raise


def _claim_of(key: str, place: KeyStore) -> Claim | None:
    return key.claim if isinstance(key, Key) else _claims.get((place.url, check_key(key)))


def _claim_of_others(key: str, place: KeyStore) -> Claim:
    """Of a key that was claimed by another process, which has passed on only its text: whoever has it now."""
    found = patiently(lambda: place.look(check_key(key)), f"looking at {key!s}")
    if found is None:
        raise UnknownKey(f"success was reported for {key!r}, which nobody has claimed", key=str(key), store=place.url)
    if found.condition is Condition.DONE:
        raise AlreadyDone(f"Completed more than once: {key!r}, by {found.owner}", key=str(key), owner=found.owner)
    return found.claim


def notify_failure(key: str, force: bool = False, *, store: Where = None) -> None:
    """Give a key back, so that others can claim it at once.

    It is back when this returns.  A key that is done stays done, which is logged, unless ``force``; so does one that
    somebody else has by now.
    """
    where = getattr(key, "where", None) if store is None else store
    place = _place(where)
    claim = _claim_of(key, place)
    what = f"giving back {key!s}"
    if force:
        patiently(lambda: place.forget(str(key)), what)
    elif claim is None:
        found = patiently(lambda: place.look(check_key(key)), what)
        if found and found.condition is not Condition.DONE:
            patiently(lambda: place.release(found.claim), what)
        elif found:
            log.warning("failure was reported for %r, which is done, by %s: it stays done", str(key), found.owner)
    elif not patiently(lambda: place.release(claim), what):
        log.warning("%r is not this claim's any more (token %d): nothing was given back", str(key), claim.token)
    _claims.pop((place.url, str(key)), None)


def forget(key: str, version: int = 0, *, store: Where = None) -> None:
    """Make a key free again, also one that is done; its value is removed."""
    place, text = _place(store), make_versioned_key(key, version)
    patiently(lambda: place.forget(text), f"forgetting {text!r}")
    _claims.pop((place.url, text), None)


def value_of(key: str, version: int = 0, *, store: Where = None, default: Any = None) -> Any:
    """The value that is stored with a key that is done, or the default.  Raises Untrusted, Unloadable."""
    place, text = _place(store), make_versioned_key(key, version)
    data = patiently(lambda: place.value(text), f"reading the value of {text!r}")
    return default if data is None else values.decode(data, place.pickles())


def conditions_of(keys: Iterable[str | int], version: int = 0, *,
                  store: Where = None) -> dict[str | int, Condition | None]:
    """What has become of each of these keys, in their order; None: nobody has it, and it is not done."""
    if isinstance(keys, (str, bytes)):
        raise UnfitKeys(f"keys must be a list, as [{keys!r:.60}], and not one text", argument="keys")
    place = _place(store)
    texts = {key: make_versioned_key(str(key), version) for key in keys}
    found = patiently(lambda: {entry.key: entry.condition for entry in place.entries_of(list(texts.values()))},
                      "looking at keys")
    return {key: found.get(text) for key, text in texts.items()}


def search_keys_by_prefix(key_prefix: str, is_expired: bool | None = None, *, store: Where = None) -> list[str]:
    """The keys that begin so, sorted; with ``is_expired`` only those whose lease is over, or only the others."""
    place, prefix = _place(store), check_prefix(key_prefix)
    return sorted(patiently(lambda: [
        entry.key for entry in place.entries(prefix)
        if is_expired is None or is_expired == (entry.condition is Condition.EXPIRED)], "searching keys"))


def count_keys_by_prefix(key_prefix: str, *, store: Where = None) -> dict[str, int]:
    """How many keys that begin so are ``expired``, ``in_progress``, and a ``success``."""
    place, prefix = _place(store), check_prefix(key_prefix)

    def count() -> dict[str, int]:
        counts = {"expired": 0, "in_progress": 0, "success": 0}
        for entry in place.entries(prefix):
            counts["success" if entry.condition.success else entry.condition.value] += 1
        return counts
    return patiently(count, "counting keys")

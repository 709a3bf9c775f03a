"""run-once's lower level: locks as records, taken and released by key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runforrest.once.errors import UnfitKeys
from runforrest.once.keys import claimed, forget, worker_name
from runforrest.once.model import Entry, KeyStore, check_key, check_timeout
from runforrest.once.stores import Where, config_file, from_config, patiently
from runforrest.once.stores import store as open_store

T = TypeVar("T")
NANOS = 10**9


@dataclass(frozen=True)
class Duration:
    """A time, as protobuf says it: whole seconds, and nanoseconds."""

    seconds: int = 0
    nanos: int = 0

    def total_seconds(self) -> float:
        return self.seconds + self.nanos / NANOS


@dataclass(frozen=True)
class Lock:
    """A lock on a key: permanent if ``expires_in`` is 0.

    acquired_since  since the Unix epoch, by the store's clock; 0 for one that was not acquired yet
    data            is not used, as in run-once
    token           of the claim; 0 for one that was not acquired yet
    """

    global_id: str
    expires_in: Duration = field(default_factory=Duration)
    acquired_since: Duration = field(default_factory=Duration)
    last_owner_name: str = ""
    data: bytes = b""
    token: int = 0


def make_duration(seconds: int | float) -> Duration:
    """As protobuf says it, cut to nanoseconds."""
    whole = int(seconds)
    return Duration(whole, int((seconds - whole) * NANOS))


def make_lock(key: str, expiration_seconds: int | float = 0, owner_name: str | None = None,
              force_ascii: bool = True) -> Lock:
    """A lock to be tried.  Raises UnfitKeys (an AssertionError) for keys that are not ASCII, unless they may be."""
    if force_ascii and not check_key(key).isascii():
        raise UnfitKeys(f"{key!r:.60} is not ASCII: say force_ascii=False", argument="key")
    check_timeout(expiration_seconds, argument="expiration_seconds")
    return Lock(check_key(key), make_duration(expiration_seconds),
                last_owner_name=worker_name() if owner_name is None else owner_name)


def try_lock(lock: Lock, force: bool = False, *, store: Where = None) -> tuple[Lock | None, Lock | None]:
    """(the lock if it was acquired, the one that was there before).

    Free: (lock, None).  Leased or permanent: (None, the existing one).  Expired, or ``force``: (lock, the one before).
    """
    place = open_store(store)
    key, seconds = check_key(lock.global_id), check_timeout(lock.expires_in.total_seconds())
    claim, found = patiently(lambda: place.claim(key, seconds, lock.last_owner_name, force), f"locking {key!r}")
    before = _lock_of(found) if found else None
    if claim is None:
        return None, before
    claimed(claim, key, 0, store)
    now = patiently(lambda: place.look(key), f"looking at {key!r}")
    since = make_duration(now.since) if now and now.ref == claim.ref else Duration()
    return Lock(key, lock.expires_in, since, lock.last_owner_name, lock.data, claim.token), before


def _lock_of(entry: Entry) -> Lock:
    """What run-once would say of it; a lease by heartbeat has no end, so it is shown as one of the longest time."""
    seconds = float(2**31) if entry.timeout is None else entry.timeout
    if entry.condition.success:
        seconds = 0.0
    return Lock(entry.key, make_duration(seconds), make_duration(entry.since), entry.owner, token=entry.token)


def force_lock_async(lock: Lock, callback: Callable[[Future[Any]], object] | None = None, *,
                     store: Where = None) -> Future[tuple[Lock | None, Lock | None]]:
    """`try_lock` with force.  It has taken place when this returns: a process that ends at once loses nothing."""
    return _done(lambda: try_lock(lock, force=True, store=store), callback)


def release_lock_async(key: str, callback: Callable[[Future[Any]], object] | None = None, *,
                       store: Where = None) -> Future[None]:
    """Make a key free, whatever its state, also one that is done.  It has taken place when this returns."""
    return _done(lambda: forget(key, store=store), callback)


def _done(call: Callable[[], T], callback: Callable[[Future[Any]], object] | None) -> Future[T]:
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    if callback is not None:
        future.add_done_callback(callback)
    return future


def lock_service_client(address: str | None = None, port: int | None = None) -> KeyStore:
    """The store: the server at this address and port, if one is given, and for the other what ``~/.run_once.ini`` says;
    else as `runforrest.once.stores.store` says.
    """
    if address is None and port is None:
        return open_store()
    return open_store(from_config(config_file(), address, port))

"""Many processes go through one list of keys, and each key is handed to one of them."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator, KeysView, Sequence
from functools import partial
from typing import Any

from runforrest.errors import InvalidArgument
from runforrest.once.errors import UnfitKeys
from runforrest.once.keys import Key, claimed, make_versioned_key, worker_name
from runforrest.once.log import log
from runforrest.once.model import check_key, check_timeout
from runforrest.once.stores import Where, patiently, settled
from runforrest.once.stores import store as open_store

MOST_CHUNK = 1024                  # keys that are asked for at once, where most are done
MOST_JUMP = 1024                   # keys that are left for later at once, where others are just taking them
_VERSIONED = re.compile(r"_v(\d{3,}|-\d+)$")


class DistributedIterator(Iterator[Key]):
    """Goes through keys that many processes share: each is handed to one of them, wherever they are.

    The keys come in their order; while many processes ask at the same moment, up to some hundreds are left for later.
    Keys that are done, or that others are at work on, are passed over without waiting.  Another `iter` begins anew,
    and hands out what has expired, or was given back, meanwhile.

    keys         a list, tuple, range, dict, or a view of a dict's keys, of str or int
    timeout      seconds after which others may take a key over; 0: a key counts as done as soon as it is handed out,
                 so one that is at work when its process dies is lost
    shuffle      go through them in random order, another one each time
    version      what is done with one version is not done with another
    chunksize    how many keys are asked for at once
    random_seed  for shuffle
    heartbeat    in place of a timeout: a key is its process's until it is reported, given back, or the process is
                 dead.  The safe way.
    store        a path or URL; else as `runforrest.once.stores.store` says

    It yields `Key`: a str, the key with its version, which is also a context manager, and knows the ``original``.
    Raises UnfitKeys.
    """

    def __init__(self, keys: Sequence[str | int] | KeysView[str] | KeysView[int] | dict[str, object] |
                 dict[int, object] | range, timeout: float = 0, shuffle: bool = False, version: int = 0,
                 chunksize: int = 10, random_seed: int | float | str | bytes | None = None, *,
                 heartbeat: bool = False, store: Where = None) -> None:
        self.keys = _checked(keys, version)
        self.timeout = check_timeout(timeout, heartbeat)
        if isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1:
            raise InvalidArgument(f"chunksize must be 1 or more, not {chunksize!r:.40}", argument="chunksize")
        if not isinstance(random_seed, (type(None), int, float, str, bytes)):
            raise InvalidArgument(f"random_seed must be a number or a text, not {random_seed!r:.40}",
                                  argument="random_seed")
        self.shuffle, self.version, self.chunksize, self.random_seed = shuffle, version, chunksize, random_seed
        self.random = random.Random(random_seed)
        self._where = store
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(DistributedIterator, heartbeat=self.timeout is None, store=self._where),
                (self.keys, self.timeout or 0, self.shuffle, self.version, self.chunksize, self.random_seed))

    def __iter__(self) -> DistributedIterator:
        """Begin with the first key: for all threads, if there are several, as each has a loop of its own."""
        with self._lock:
            self._begin()
        return self

    def _begin(self) -> None:
        if self.shuffle:
            self.random.shuffle(self.keys)
        self._store = open_store(self._where)
        self._keys_where = settled(self._where)
        self._store.refresh()
        self._order = self.keys
        self._next = 0                          # the position of the next key to ask for
        self._chunk = self.chunksize
        self._jump = 1
        self._later: list[str | int] = []       # jumped over: tried when all others have been

    def __next__(self) -> Key:
        """The next key that is to be had; several threads may ask.  Raises RetryTimeoutError if the store can't be
        reached.
        """
        with self._lock:
            return self._claim_next()

    def _claim_next(self) -> Key:
        while True:
            if self._next >= len(self._order):
                self._look_again()
            block = self._order[self._next:self._next + self._chunk]
            texts = [make_versioned_key(str(each), self.version) for each in block]
            claim, over, crowded = patiently(
                lambda some=texts: self._store.claim_any(some, self.timeout, worker_name()),  # type: ignore[misc]
                "claiming keys")
            self._next += over
            if claim is not None:
                self._next += 1
                self._chunk, self._jump = self.chunksize, max(1, self._jump // 2)
                return claimed(claim, block[over], self.version, self._keys_where)
            if crowded:
                self._jump_ahead()
            else:
                self._chunk = min(MOST_CHUNK, self._chunk * 2)

    def _jump_ahead(self) -> None:
        """Others are just taking these keys, and are farther on than when the store was looked at: overtake them."""
        if self._order is self.keys:
            far = self.random.randint(1, self._jump)
            self._later += self._order[self._next:self._next + far]
            self._next += far
            self._jump = min(MOST_JUMP, self._jump * 2)

    def _look_again(self) -> None:
        """Go through what was jumped over.  Raises StopIteration if there is nothing more."""
        if not self._later:
            raise StopIteration
        self.random.shuffle(self._later)
        self._order, self._later, self._next = self._later, [], 0
        self._store.refresh()


def _checked(keys: object, version: int) -> list[str | int]:
    """The keys as a list.  Raises UnfitKeys."""
    if not isinstance(keys, (KeysView, dict, Sequence)) or isinstance(keys, (str, bytes)):
        raise UnfitKeys(f"keys must be a list, a tuple, a range, a dict or its keys, not {type(keys).__name__}: their "
                        f"order must be the same in all processes", argument="keys")
    found = list(keys)
    for key in found:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise UnfitKeys(f"keys must be str or int, not {key!r:.60}", argument="keys")
        text = make_versioned_key(str(key), version)
        if len(text) > 1024 or not text.isascii():
            check_key(text)
    if version == 0:
        like = next((key for key in found if isinstance(key, str) and _VERSIONED.search(key)), None)
        if like is not None:
            log.warning("%r is also what another key with a version is called: keys of different versions are kept "
                        "apart for certain only in stores of their own", like)
    return found

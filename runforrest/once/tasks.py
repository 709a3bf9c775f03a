"""Functions that are run once across all processes and machines."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast, overload

from runforrest.errors import InvalidArgument
from runforrest.graph.decorator import refuse_async
from runforrest.once import values
from runforrest.once.errors import InProgress
from runforrest.once.keys import Key, claimed, make_versioned_key, notify_failure, worker_name
from runforrest.once.log import log
from runforrest.once.model import Condition, Entry, Status, check_timeout
from runforrest.once.stores import Where, patiently
from runforrest.once.stores import store as open_store

P = ParamSpec("P")
T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0     # seconds between two looks at a key that another is at work on


def distributed_task(key: str, timeout: float, version: int = 0, suppress_exception: bool = True, *,
                     heartbeat: bool = False, store_value: bool = False, store: Where = None
                     ) -> Callable[[Callable[P, T]], Callable[P, tuple[Status, T | None]]]:
    """A decorator: the function is run once, and each call returns (Status, value).

    key                 names the work; with its version
    timeout             seconds after which another may begin it as well; 0: it is done as soon as it has begun
    suppress_exception  an exception is logged, and the status is COMPUTE_ERROR; else it is raised.  Either way the
                        key is free again, also after SystemExit and KeyboardInterrupt, which are always raised.
    heartbeat           in place of a timeout (give 0): it is this process's until it ends, or the process is dead
    store_value         keep the value: who finds the work done gets it (SKIP_OK), else None
    store               a path or URL; else as `runforrest.once.stores.store` says

    If the claim expired meanwhile, and another has it, ClaimLost is raised: this value does not count.
    """
    text, seconds = make_versioned_key(key, version), check_timeout(timeout, heartbeat)

    def decorate(function: Callable[P, T]) -> Callable[P, tuple[Status, T | None]]:
        refuse_async(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> tuple[Status, T | None]:
            mine, found = _claim(text, key, version, seconds, store)
            if mine is None:
                if found is None or not found.condition.success:
                    return Status.SKIP_IN_PROGRESS, None
                return Status.SKIP_OK, _stored(found, store)
            try:
                value = _work(mine, functools.partial(function, *args, **kwargs))
            except Exception:
                if not suppress_exception:
                    raise
                log.exception("exception in the function of the key %r, which is free again", text)
                return Status.COMPUTE_ERROR, None
            _finish(mine, value, store_value)
            return Status.COMPUTE_OK, value
        return call
    return decorate


def run_once(key: str, timeout: float | None = None, version: int = 0, *, wait: float | None = 0,
             store: Where = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: the function is run once across all processes, and every call returns its value.

    key      names the work; with its version
    timeout  seconds after which another may begin it as well; None: when this process is dead (the safe way)
    wait     seconds for which to wait for another process that is at work on it; None: as long as it takes
    store    a path or URL; else as `runforrest.once.stores.store` says

    The value is kept with the key.  An exception is raised, and the key is free again.
    Raises InProgress if another is still at work on it, ClaimLost if another has taken it over meanwhile.
    """
    if timeout == 0:
        raise InvalidArgument("run_once needs a timeout of more than 0 seconds, or None: with 0 a function that fails "
                              "would count as done", argument="timeout")
    text, seconds = make_versioned_key(key, version), check_timeout(timeout or 0, timeout is None)
    patience = None if wait is None else check_timeout(wait, argument="wait")

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        refuse_async(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            deadline = None if patience is None else time.monotonic() + patience
            pause = FIRST_PAUSE
            while True:
                mine, found = _claim(text, key, version, seconds, store)
                if mine is not None:
                    value = _work(mine, functools.partial(function, *args, **kwargs))
                    _finish(mine, value, True)
                    return value
                if found is not None and found.condition.success:
                    return cast("T", _stored(found, store))
                if deadline is not None and time.monotonic() >= deadline:
                    owner = found.owner if found else ""
                    raise InProgress(f"{owner or 'another process'} is at work on {text!r}; wait=None waits for it",
                                     key=text, owner=owner)
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(LONGEST_PAUSE, pause * 2)
        return call
    return decorate


@overload
def at_most_every(_func: Callable[P, T], *, seconds: float, key: str,
                  store: Where = None) -> Callable[P, T | None]: ...
@overload
def at_most_every(_func: None = None, *, seconds: float, key: str,
                  store: Where = None) -> Callable[[Callable[P, T]], Callable[P, T | None]]: ...
def at_most_every(_func: Any = None, *, seconds: float, key: str, store: Where = None) -> Any:
    """A decorator: of all calls in all processes, one every so many seconds runs the function.

    It returns the function's value, or None if it was not run.  A call that fails counts as well.
    """
    make_versioned_key(key, 0)
    if not check_timeout(seconds, argument="seconds"):
        raise InvalidArgument(f"seconds must be more than 0, not {seconds!r:.40}", argument="seconds")

    def decorate(function: Callable[P, T]) -> Callable[P, T | None]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T | None:
            place = open_store(store)
            claim, _ = patiently(lambda: place.claim(key, float(seconds), worker_name()), f"claiming {key!r}")
            return function(*args, **kwargs) if claim else None
        return call
    return decorate if _func is None else decorate(_func)


def _claim(text: str, key: str, version: int, seconds: float | None, where: Where) -> tuple[Key | None, Entry | None]:
    place = open_store(where)
    claim, found = patiently(lambda: place.claim(text, seconds, worker_name()), f"claiming {text!r}")
    return (claimed(claim, key, version, where) if claim else None), found


def _work(key: Key, function: Callable[[], T]) -> T:
    """Run it; if anything is raised, the key is free again."""
    try:
        return function()
    except BaseException:
        notify_failure(key, store=key.where)
        raise


def _finish(key: Key, value: object, keep: bool) -> None:
    """Report success.  Raises ClaimLost."""
    if keep:
        key.value = value
    key.succeed()


def _stored(found: Entry, where: Where) -> Any:
    """The value of a key that is done; None if there is none."""
    if not found.has_value or found.condition is not Condition.DONE:
        return None
    place = open_store(where)
    data = patiently(lambda: place.value(found.key), f"reading the value of {found.key!r}")
    return None if data is None else values.decode(data, place.pickles())

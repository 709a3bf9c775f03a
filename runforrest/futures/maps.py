"""`Executor.map`: calls in chunks, a buffer of them ahead of the results."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from runforrest.errors import InvalidArgument
from runforrest.futures import calls


def check(timeout: object, chunksize: object, buffersize: object) -> None:
    """Raises InvalidArgument, which is a ValueError, and TypeError where the standard library does."""
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be seconds, or None, not {timeout!r:.60}")
    if isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1:
        raise InvalidArgument(f"chunksize must be a whole number, 1 or more, not {chunksize!r}", argument="chunksize")
    if buffersize is None:
        return
    if isinstance(buffersize, bool) or not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize < 1:
        raise InvalidArgument(f"buffersize must be None, or 1 or more, not {buffersize!r}", argument="buffersize")


def results(submit: Callable[..., Future[Any]], cancel: Callable[[Iterable[Any]], object], fn: Callable[..., Any],
            iterables: tuple[Iterable[Any], ...], timeout: float | None, chunksize: int,
            buffersize: int | None) -> Iterator[Any]:
    """The calls' values in their order.  ``buffersize``: so many are submitted before the first value is asked for,
    and one for each that was; None: all.
    """
    end = None if timeout is None else time.monotonic() + timeout
    rows = zip(*iterables)      # noqa: B905 - as map() does
    if chunksize > 1:
        chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        to_come: Iterator[Any] = (partial(submit, calls.chunk, fn, chunk) for chunk in chunks)
    else:
        to_come = (partial(submit, fn, *row) for row in rows)
    ahead = deque(each() for each in itertools.islice(to_come, buffersize))
    found = _values(ahead, to_come if buffersize else iter(()), end, cancel)
    return itertools.chain.from_iterable(found) if chunksize > 1 else found


def _values(ahead: deque[Future[Any]], to_come: Iterator[Callable[[], Future[Any]]],
            end: float | None, cancel: Callable[[Iterable[Any]], object]) -> Iterator[Any]:
    """Whoever does not want the rest has it cancelled."""
    try:
        while ahead:
            value = _value(ahead[0], end)
            ahead.popleft()
            ahead.extend(each() for each in itertools.islice(to_come, 1))
            yield value.pop()
    finally:
        cancel(each for each in ahead if not each.running())


def _value(future: Future[Any], end: float | None) -> list[Any]:
    """In a list, so that nobody holds it who has handed it on."""
    try:
        return [future.result(None if end is None else end - time.monotonic())]
    finally:
        del future

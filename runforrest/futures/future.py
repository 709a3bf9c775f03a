"""The future of a task."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from runforrest.errors import UnpicklableError

T = TypeVar("T")
_Base = concurrent.futures.Future


class Future(_Base[T], Generic[T]):
    """What becomes of a call.

    id    of its task, by which any program finds it again: `Executor.future`
    name  that it was given; the id, if it was given none
    """

    def __init__(self, id: str, name: str, withdraw: Callable[[Iterable[Future[Any]]], bool]) -> None:
        """``withdraw``: takes tasks of futures out of the list; whether it could."""
        super().__init__()
        self.id, self.name = id, name or id
        self._withdraw = withdraw

    def __repr__(self) -> str:
        return f"<{self.id}: {super().__repr__()[1:]}"

    def __reduce__(self) -> Any:
        raise UnpicklableError("a future can't be given to a call: give it future.result(), or have the call wait for "
                               "the task with options(after=future)")

    def cancel(self) -> bool:
        """Take the task out of the list; False if it runs, or has ended, so that it can't be cancelled."""
        if self.done() or self.running():
            return self.cancelled()
        return self._withdraw([self])

    def cancelled_at_last(self) -> None:
        """Its task will not run: say so to all who wait."""
        super().cancel()
        self.set_running_or_notify_cancel()

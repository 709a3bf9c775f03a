"""``@deferred``: every call of the function makes a task."""

from __future__ import annotations

import sys
from types import MethodType

from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec

    P = ParamSpec("P")

_KEPT = ("__module__", "__name__", "__qualname__", "__doc__")
_ASYNC = 0x80 | 0x200              # flags of a code object: inspect.CO_COROUTINE, CO_ASYNC_GENERATOR


def deferred(fun: Callable[P, Any], /) -> Callable[P, Task]:
    """Have each call of this function make a task, as ``defer(fun, ...)`` does: nothing is run.

        @deferred
        def simulate(size: int, seed: int = 0) -> float: ...

        tasks.schedule(simulate(100, seed=1))

    Type checkers know its arguments as before; tasks may take their places.  The function itself is
    ``inspect.unwrap(simulate)``.  Below ``@staticmethod`` and ``@classmethod``.

    Raises DeferredError for what can't be called, and for an async function.
    """
    if not callable(fun):
        from ..errors import DeferredError
        hint = "; put @deferred below @classmethod" if isinstance(fun, classmethod) else ""
        raise DeferredError(f"deferred takes a function, not {type(fun).__name__}{hint}")
    refuse_async(fun)
    return Deferred(fun)


def refuse_async(fun: object) -> None:
    """Raises DeferredError: what such a function returns is a coroutine, which can't leave its process."""
    code = getattr(fun, "__code__", None)
    if getattr(code, "co_flags", 0) & _ASYNC:
        from ..errors import DeferredError
        name = getattr(fun, "__name__", "")
        raise DeferredError(f"{name} is an async function, so its value would be a coroutine, which can't leave its "
                            f"process: use a function that calls asyncio.run({name}(…))")


def undeferred(fun: Any) -> Any:
    """What a decorated function, or method, runs; any other callable as it is."""
    if isinstance(fun, MethodType) and isinstance(fun.__func__, Deferred):
        from functools import partial
        return partial(fun.__func__.function(), fun.__self__)
    return fun.function() if isinstance(fun, Deferred) else fun


class Deferred:
    """What a decorated function becomes."""

    __wrapped__: Callable[..., Any]
    __qualname__: str

    def __init__(self, fun: Callable[..., Any]) -> None:
        _take(self, fun)
        self.__wrapped__ = fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Task:
        return Task(self.function(), args, kwargs)

    def function(self) -> Callable[..., Any]:
        """What a task of it calls, which can be pickled."""
        return _Undeferred(self) if self._is_importable() else self.__wrapped__

    def __get__(self, instance: object, owner: object = None) -> Any:
        if instance is None or isinstance(self.__wrapped__, staticmethod):
            return self
        return MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<deferred {self.__wrapped__!r}>"

    def __reduce__(self) -> Any:
        return self.__qualname__ if self._is_importable() else (Deferred, (self.__wrapped__,))

    def _is_importable(self) -> bool:
        """Whether others find it where it was defined: not in a script, and not in a function."""
        if self.__module__ in ("__main__", "__mp_main__"):
            return False
        found: object = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return found is self


class _Undeferred:
    """The function of a `Deferred`, which can't be pickled by its name, as that is taken.

    It is written by name into task files: keep it.
    """

    def __init__(self, decorated: Deferred) -> None:
        _take(self, decorated)
        self.__wrapped__ = decorated.__wrapped__
        self._decorated = decorated

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> Any:
        return _Undeferred, (self._decorated,)


def _take(wrapper: Any, fun: Any) -> None:
    for name in _KEPT:
        setattr(wrapper, name, getattr(fun, name, None) or type(fun).__name__)
    wrapper.__annotations__ = getattr(fun, "__annotations__", {})

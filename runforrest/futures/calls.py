"""What runs in the children.  They import this module, so it imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: for each initializer that this process has called: its globals, and those of them that are its own, by name
_begun: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}


class InitializerFailed(Exception):
    """The initializer of an executor has raised, in the process of one of its calls."""


def initialized(tag: str, initializer: Callable[..., object], initargs: tuple[Any, ...], fn: Callable[..., Any],
                args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The value of the call; the initializer is called before the first of them in each process.

    Functions of the main program come with globals of their own in each call.  What the initializer has set, or
    mentions, stays from one to the next, as if they were those of the process.

    tag  stands for the initializer, and what it is given
    """
    its = getattr(getattr(initializer, "func", initializer), "__globals__", {})
    if tag not in _begun:
        before = dict(its)
        try:
            initializer(*initargs)
        except Exception as error:
            raise InitializerFailed(f"{type(error).__name__}: {error}") from error
        names = _mentioned(getattr(initializer, "func", initializer), its)
        names |= {name for name in its if name not in before or its[name] is not before[name]}
        _begun[tag] = its, {name: its[name] for name in names & its.keys()}
    first, own = _begun[tag]
    if its is not first:
        its.update(own)
    try:
        return fn(*args, **kwargs)
    finally:
        own.update((name, its[name]) for name in own.keys() & its.keys())


def _mentioned(function: Any, its: dict[str, Any]) -> set[str]:
    """The names in the code of a function, and of those of its globals that it calls."""
    names: set[str] = set()
    codes = [code for code in [getattr(function, "__code__", None)] if code]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if type(constant) is type(code)]
        new = set(code.co_names) - names
        names |= new
        codes += [its[name].__code__ for name in new & its.keys() if hasattr(its[name], "__code__")]
    return names


def chunk(fn: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Several calls in one."""
    return [fn(*row) for row in rows]

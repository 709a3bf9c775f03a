"""What pickles by value call when they are loaded.  They are written by name: keep them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_session: dict[str, Any] | None = None


def use_session() -> None:
    """A saved session is now in ``__main__``: its functions find their globals there, by name and as they
    were when it was saved, like RunForrest's; without a session they have those of when they were scheduled.
    """
    import __main__

    global _session
    _session = vars(__main__)


def make_globals(module: str) -> dict[str, Any]:
    """The globals of functions of the main program, to be filled by `set_globals`."""
    if _session is not None and module in ("__main__", "__mp_main__"):
        return _session
    return {"__name__": module}


def set_globals(target: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        if target is not _session or name not in target:
            target[name] = value


def load_function(data: bytes) -> Any:
    import pickle

    return pickle.loads(data)


def set_function_state(fun: Any, attributes: dict[str, Any], details: dict[str, Any]) -> None:
    fun.__dict__.update(attributes)
    for name, value in details.items():
        setattr(fun, name, value)


def make_enum(
    meta: Any,
    name: str,
    bases: tuple[type, ...],
    own: dict[str, Any],
    members: dict[str, Any],
    qualname: str,
    module: str,
) -> Any:
    body = meta.__prepare__(name, bases)
    body["__module__"] = module
    body["__qualname__"] = qualname
    for key, value in [*own.items(), *members.items()]:
        body[key] = value
    return meta(name, bases, body)


def make_typevar(
    name: str, constraints: tuple[Any, ...], bound: Any, covariant: bool, contravariant: bool
) -> Any:
    from typing import TypeVar

    make: Any = TypeVar                     # whose name a type checker wants to see written out
    made = make(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)
    made.__module__ = "__main__"            # else it is taken for ours, and can't be pickled again
    return made

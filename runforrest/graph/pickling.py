"""Tasks and values to bytes and back."""

from __future__ import annotations

from types import FunctionType

from ..errors import GraphError
from . import byreference, flat
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import dumps as _dumps
    from pickle import loads as _loads
    from typing import Any
else:
    try:
        from _pickle import dumps as _dumps  # see byreference
        from _pickle import loads as _loads
    except ImportError:
        from pickle import dumps as _dumps
        from pickle import loads as _loads

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})

flat.register()


def dumps(obj: Any) -> tuple[bytes, str]:
    """Pickle a task or value so that a fresh interpreter can load it.

    Returns the bytes and who wrote them: "pickle", or "dill" if something had to be pickled by
    value, that is, a function or class of the main program, a lambda, a closure.  It is always one
    pickler for the whole, so that a class and its instances stay together.
    Raises UnpicklableError, which says what can't be pickled and where it is.
    """
    if type(obj) in _SCALARS:
        return _dumps(obj, byreference.PROTOCOL), "pickle"
    try:
        if not _calls_main(obj):
            return byreference.dumps(obj), "pickle"
        from . import repeated  # loads dill

        known = repeated.dumps(obj)
        if known is not None:
            return known, "dill"
    except (GraphError, MemoryError):
        raise
    except Exception:
        pass  # dill has the last word
    try:
        from . import byvalue  # loads dill

        return byvalue.dumps(obj), "dill"
    except (GraphError, MemoryError):
        raise
    except Exception as error:
        from .unpicklable import explain

        raise explain(obj, error) from error


def _calls_main(obj: Any) -> bool:
    """A usual case in which trying by reference would be in vain."""
    fun = obj.__dict__.get("_fun") if isinstance(obj, Task) else None
    return type(fun) is FunctionType and fun.__module__ == "__main__"


def loads(data: bytes) -> Any:
    """What ``dumps`` has pickled.  Runs code from the data: only for data that you trust.

    Data from dill names the functions of dill that it needs, so pickle loads dill by itself.
    """
    try:
        return _loads(data)
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":
            raise
        # RunForrest's files: dill with other settings, which mean 'the globals of __main__' by this
        import dill

        return dill.loads(data, ignore=True)


def find_unpicklable(obj: Any) -> tuple[str, Any, Exception] | None:
    """Path, offender and error of the innermost thing that can't be pickled; None if all can."""
    from .unpicklable import find

    return find(obj)

"""The proxies: what ``defer`` returns, and what asking them for more returns."""

from __future__ import annotations

import copyreg
import itertools
import operator
import os

from ..errors import DeferredError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn, ParamSpec, TypeAlias, overload

    P = ParamSpec("P")
    _Anything: TypeAlias = Any
else:
    _Anything = object

LABEL_LENGTH = 80

# What a proxy keeps for itself.  They must never look like attributes of the value: an unpickler
# and `copy` meet proxies that don't have them yet.
CORE = frozenset({"_fun", "_args", "_kwargs", "_id", "_parent", "_index"})


class _Ids:
    """Identifiers that no two tasks of any two processes share."""

    def __init__(self) -> None:
        self.pid = 0

    def __call__(self) -> str:
        # a handler that runs at each fork would cost every child more than this comparison
        pid = os.getpid()
        if pid != self.pid:
            self.pid = pid
            self.prefix = os.urandom(8).hex() + "-"
            self.count = itertools.count(1).__next__
        return f"{self.prefix}{self.count()}"


new_id = _Ids()


if TYPE_CHECKING:
    @overload
    def defer(fun: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Task: ...
    @overload
    def defer(fun: object, /) -> Task: ...
    def defer(fun: Any, /, *args: Any, **kwargs: Any) -> Task: ...
else:
    def defer(fun: Any, /, *args: Any, **kwargs: Any) -> Task:
        """Wrap a call for later: nothing is run.

        The task can be an argument of other deferred calls, also inside lists, dicts and the like,
        and its attributes, items and calls are tasks again.  A ``fun`` that is not callable, or is
        a task, is data: the task evaluates to it.
        """
        if (args or kwargs) and (isinstance(fun, Task) or not callable(fun)):
            import warnings

            hint = "write task(...) to call its value" if isinstance(fun, Task) else "it is not callable"
            warnings.warn(f"defer({_kind_of(fun)}, ...) ignores the further arguments: {hint}", stacklevel=2)
            args, kwargs = (), {}
        return Task(fun, args, kwargs)


def _kind_of(value: object) -> str:
    return f"<{label(value)}>" if isinstance(value, Task) else type(value).__name__


def _not_yet(task: Task, tried: str, instead: str) -> NoReturn:
    raise DeferredError(f"{tried} of {task!r}: it has no value before it has run; {instead}")


class Task(_Anything):  # type: ignore[misc]
    """A deferred call, and a stand-in for its value: to a type checker it may be an argument of any type."""

    _fun: Any
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _id: str

    # set by others, once the task has been scheduled or has run; before that, deferred attributes
    metadata: Any
    returnvalue: Any
    errorvalue: Any
    runtime: Any
    attempts: Any
    scheduled: Any

    # Without this, `array + task` is an array of tasks; with it, numpy leaves the sum to us.
    __array_ufunc__ = None

    def __init__(self, fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._fun = fun
        self._args = args
        self._kwargs = kwargs
        self._id = new_id()

    # -- more of the value ---------------------------------------------------------------

    def __getattr__(self, name: str) -> TaskAttribute:
        if name in CORE or (name[:2] == "__" and name[-2:] == "__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return TaskAttribute(self, name)

    def __getitem__(self, key: Any) -> TaskItem:
        return TaskItem(self, key)

    def __call__(self, /, *args: Any, **kwargs: Any) -> TaskCall:
        return TaskCall(self, args, kwargs)

    # -- identity ------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<task {label(self, 60)} {self.__dict__.get('_id', '(unfinished)')[:30]}>"

    def __copy__(self) -> Task:
        twin: Task = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Registered by `flat`, which knows the whole graph.  pickle looks there by itself,
        # but not a pickler with a table of its own.
        return copyreg.dispatch_table[Task](self)

    # -- what only the value can answer ----------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        _not_yet(self, "iteration", "write defer(list, task), or task[0], task[1], ...")

    def __bool__(self) -> bool:
        _not_yet(self, "truth", "write defer(bool, task), or defer a function that decides")

    def __len__(self) -> int:
        _not_yet(self, "len()", "write defer(len, task)")

    def __contains__(self, item: object) -> bool:
        _not_yet(self, "'in'", "write defer(operator.contains, task, item)")

    # -- operators -----------------------------------------------------------------------

    def __add__(self, other: Any) -> Task:
        return Task(operator.add, (self, other), {})

    def __radd__(self, other: Any) -> Task:
        return Task(operator.add, (other, self), {})

    def __sub__(self, other: Any) -> Task:
        return Task(operator.sub, (self, other), {})

    def __rsub__(self, other: Any) -> Task:
        return Task(operator.sub, (other, self), {})

    def __mul__(self, other: Any) -> Task:
        return Task(operator.mul, (self, other), {})

    def __rmul__(self, other: Any) -> Task:
        return Task(operator.mul, (other, self), {})

    def __matmul__(self, other: Any) -> Task:
        return Task(operator.matmul, (self, other), {})

    def __rmatmul__(self, other: Any) -> Task:
        return Task(operator.matmul, (other, self), {})

    def __truediv__(self, other: Any) -> Task:
        return Task(operator.truediv, (self, other), {})

    def __rtruediv__(self, other: Any) -> Task:
        return Task(operator.truediv, (other, self), {})

    def __floordiv__(self, other: Any) -> Task:
        return Task(operator.floordiv, (self, other), {})

    def __rfloordiv__(self, other: Any) -> Task:
        return Task(operator.floordiv, (other, self), {})

    def __mod__(self, other: Any) -> Task:
        return Task(operator.mod, (self, other), {})

    def __rmod__(self, other: Any) -> Task:
        return Task(operator.mod, (other, self), {})

    def __divmod__(self, other: Any) -> Task:
        return Task(divmod, (self, other), {})

    def __rdivmod__(self, other: Any) -> Task:
        return Task(divmod, (other, self), {})

    def __pow__(self, other: Any, modulus: Any = None) -> Task:
        return Task(pow, (self, other) if modulus is None else (self, other, modulus), {})

    def __rpow__(self, other: Any) -> Task:
        return Task(pow, (other, self), {})

    def __lshift__(self, other: Any) -> Task:
        return Task(operator.lshift, (self, other), {})

    def __rlshift__(self, other: Any) -> Task:
        return Task(operator.lshift, (other, self), {})

    def __rshift__(self, other: Any) -> Task:
        return Task(operator.rshift, (self, other), {})

    def __rrshift__(self, other: Any) -> Task:
        return Task(operator.rshift, (other, self), {})

    def __and__(self, other: Any) -> Task:
        return Task(operator.and_, (self, other), {})

    def __rand__(self, other: Any) -> Task:
        return Task(operator.and_, (other, self), {})

    def __or__(self, other: Any) -> Task:
        return Task(operator.or_, (self, other), {})

    def __ror__(self, other: Any) -> Task:
        return Task(operator.or_, (other, self), {})

    def __xor__(self, other: Any) -> Task:
        return Task(operator.xor, (self, other), {})

    def __rxor__(self, other: Any) -> Task:
        return Task(operator.xor, (other, self), {})

    def __neg__(self) -> Task:
        return Task(operator.neg, (self,), {})

    def __pos__(self) -> Task:
        return Task(operator.pos, (self,), {})

    def __invert__(self) -> Task:
        return Task(operator.invert, (self,), {})

    def __abs__(self) -> Task:
        return Task(abs, (self,), {})

    def __round__(self, digits: Any = None) -> Task:
        return Task(round, (self,) if digits is None else (self, digits), {})


class PartOfTask(Task):
    """Something of the value of another task: an attribute, an item, a call."""

    _parent: Task
    _index: Any

    def __init__(self, parent: Task, index: Any) -> None:
        self._parent = parent
        self._index = index
        self._id = new_id()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Our own pickles carry at most some further attributes here.  RunForrest's bring
        # everything, with an id made of the parent's and the index: the same for t.a and t['a'].
        self.__dict__.update(state)
        if "_parent" in state:
            self._id = new_id()


class TaskAttribute(PartOfTask):
    """``task.name``"""


class TaskItem(PartOfTask):
    """``task[key]``"""


class TaskCall(PartOfTask):
    """``task(...)``"""

    def __init__(self, parent: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(parent, None)
        self._args = args
        self._kwargs = kwargs


def _identity(value: Any) -> Any:
    """What RunForrest's tasks of data call, by this name."""
    return value


# -- names for people ----------------------------------------------------------------------


def label(task: object, length: int = LABEL_LENGTH) -> str:
    """What people call the task: ``simulate``, ``simulate[0]``, ``data:int``; never fails."""
    try:
        text = _label(task, length)
    except Exception:
        text = "?"  # an object that raises on being looked at
    return text if len(text) <= length else text[: length - 3] + "..."


def _label(task: object, length: int) -> str:
    tail = ""
    while True:
        if isinstance(task, PartOfTask):
            if len(tail) < 2 * length:  # chains may be long
                tail = _suffix(task) + tail
            elif not tail.startswith("..."):
                tail = "..." + tail
            task = task._parent
        elif isinstance(task, Task) and isinstance(task._fun, Task):
            task = task._fun
        else:
            break
    fun = task._fun if isinstance(task, Task) else task
    return (function_name(fun) if callable(fun) else f"data:{type(fun).__name__}") + tail


def _suffix(part: PartOfTask) -> str:
    if isinstance(part, TaskAttribute):
        return f".{part._index}"
    if isinstance(part, TaskCall):
        return "()"
    index = part._index
    if type(index) in (str, bytes):
        return f"[{index[:30]!r}]"
    small = index is None or type(index) in (bool, float) or (type(index) is int and abs(index) < 10**9)
    return f"[{index!r}]" if small else "[...]"


def function_name(fun: Callable[..., object]) -> str:
    """``simulate``, ``lambda``, ``Class.method``; of a partial, what is inside."""
    for _ in range(20):
        name = getattr(fun, "__qualname__", None)
        if type(name) is str:
            return name.rpartition("<locals>.")[2].replace("<lambda>", "lambda") or "?"
        inner = getattr(fun, "func", None)
        if inner is None or not callable(inner):
            break
        fun = inner
    name = getattr(fun, "__name__", None)
    return name if type(name) is str else type(fun).__qualname__.rpartition("<locals>.")[2]

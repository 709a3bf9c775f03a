"""Saying what can't be pickled, and where in the call it is.  Imported only after a failure."""

from __future__ import annotations

from ..errors import UnpicklableError
from . import byreference, byvalue
from .task import Task, function_name, label
from .walk import APPLY, ATTRIBUTE, DATA, DICT, ITEM, LIST, OBJECT, SET, TUPLE, Node, take_apart, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_VISITS = 1000
MAX_TEXT = 120

_HARMLESS = frozenset({int, float, complex, bool, str, bytes, type(None)})

_KINDS = {
    "generator": "a generator",
    "coroutine": "a coroutine",
    "lock": "a lock",
    "RLock": "a lock",
    "socket": "a socket",
    "SSLSocket": "a socket",
    "Connection": "a connection",
    "Cursor": "a database cursor",
    "Popen": "a running process",
    "Process": "a process",
    "frame": "a stack frame",
    "traceback": "a traceback",
    "TextIOWrapper": "an open file",
    "BufferedReader": "an open file",
    "BufferedWriter": "an open file",
    "BufferedRandom": "an open file",
    "FileIO": "an open file",
}


def explain(obj: Any, error: Exception) -> UnpicklableError:
    """The error to raise when ``obj`` could not be pickled because of ``error``."""
    path, offender, cause = _Search().descend("", obj, error)
    where = path or ("the task" if isinstance(obj, Task) else "the value")
    shown = _shown(offender)
    if _too_deep(cause):
        reason = "it is nested too deeply for pickle; pass a flatter structure, such as a list"
    else:
        reason = f"{_first_line(cause)}; pass something that can be rebuilt in another process instead"
    message = f"cannot pickle {where}: {shown} ({_kind(offender)}): {reason}"
    return UnpicklableError(message, path=path, offender=shown)


def find(obj: Any) -> tuple[str, Any, Exception] | None:
    """Path, offender and error of the innermost thing in ``obj`` that can't be pickled."""
    error = trial(obj)
    return None if error is None else _Search().descend("", obj, error)


class _Search:
    """Goes to the first part that fails by itself, then to the first part of that, and so on."""

    def __init__(self) -> None:
        self.visits = 0
        self.seen: dict[int, Any] = {}  # by id(); holding the objects keeps the ids

    def descend(self, path: str, obj: Any, error: Exception) -> tuple[str, Any, Exception]:
        """``obj``, which is at ``path``, fails with ``error``."""
        while True:
            if _too_deep(error) and not isinstance(obj, Task):
                return path, obj, error
            if isinstance(error, UnpicklableError) and "__reduce__" in vars(type(obj)):
                return path, obj, error             # it says itself why
            for step, part in parts(obj):
                worse = self._trial(part)
                if worse is not None:
                    path, obj, error = join(path, step), part, worse
                    break
            else:
                return path, obj, error

    def _trial(self, part: Any) -> Exception | None:
        if type(part) in _HARMLESS or id(part) in self.seen or self.visits >= MAX_VISITS:
            return None
        self.seen[id(part)] = part
        self.visits += 1
        return trial(part)


def trial(obj: Any) -> Exception | None:
    try:
        byreference.dumps(obj)
    except Exception:
        try:
            byvalue.dumps(obj)
        except Exception as error:
            return error
    return None


def join(path: str, step: str) -> str:
    """``argument 'x' of f``, then ``, in [0]``, then further steps without a comma."""
    if not path:
        text = f"the value, in {step}" if step[0] in ".[" else step
    elif step[0] in ".[" and ", in " in path:
        text = path + step
    else:
        text = f"{path}, in {step}"
    return text if len(text) <= 4 * MAX_TEXT else text[: 2 * MAX_TEXT] + "..." + text[-MAX_TEXT:]


# -- the parts of things ---------------------------------------------------------------------


def parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object is made of: the step to it in words, and the part."""
    if isinstance(obj, Task):
        yield from _parts_of_graph(obj)
        return
    if isinstance(obj, (list, tuple, dict, set, frozenset)):
        node = take_apart(obj)
        for index, part in enumerate(node.operands):
            if not isinstance(part, Task):
                yield _step(node, index), part
    fun = getattr(obj, "__func__", obj)  # of a bound method
    if fun is not obj:
        yield ".__self__", getattr(obj, "__self__", None)
        yield ".__func__", fun
    elif hasattr(obj, "__code__"):
        yield from _parts_of_function(obj)
    elif isinstance(obj, type):
        for name, value in list(vars(obj).items()):
            if name not in ("__dict__", "__weakref__"):
                yield f".{name}", value
    else:
        yield from _parts_of_object(obj)


def _parts_of_graph(task: Task) -> Iterator[tuple[str, Any]]:
    """All plain values of the graph, those of the last call first."""
    nodes = walk(task).nodes
    paths = [""] * len(nodes)
    for position in range(len(nodes) - 1, -1, -1):
        node = nodes[position]
        linked = dict(node.links)
        for index, operand in enumerate(node.operands):
            if node.kind < LIST:
                path = _argument(node, index)
            else:
                path = join(paths[position], _step(node, index))
            if index not in linked:
                yield path, operand
            elif not paths[linked[index]]:
                paths[linked[index]] = path
    for name, value in task.__dict__.items():
        if name in ("metadata", "returnvalue", "errorvalue"):
            yield f"{name} of {label(task)}", value


def _argument(node: Node, index: int) -> str:
    """Where an operand of a task is, in words."""
    name = label(node.source)
    if node.kind in (ITEM, ATTRIBUTE):
        return f"the index of {name}"
    if node.kind == DATA:
        return "the data" if name.startswith("data:") else f"the value of {name}"
    if index == 0:
        return f"function {name}"
    keywords = node.rest or ()
    positional = len(node.operands) - len(keywords)
    if index >= positional:
        return f"argument {keywords[index - positional]!r} of {name}"
    names = () if node.kind == APPLY else _parameter_names(node.operands[0])
    at = index - 1
    return f"argument {names[at]!r} of {name}" if at < len(names) else f"argument {at} of {name}"


def _parameter_names(fun: Any) -> tuple[str, ...]:
    """The names of positional parameters, as far as they can be known without `inspect`."""
    skip = 0
    if isinstance(fun, type):
        fun, skip = getattr(fun, "__init__", None), 1
    elif hasattr(fun, "__func__"):
        fun, skip = fun.__func__, 1
    code = getattr(fun, "__code__", None)
    if code is None:
        return ()
    return tuple(code.co_varnames[skip : code.co_argcount])


def _step(node: Node, index: int) -> str:
    if node.kind in (LIST, TUPLE):
        return f"[{index}]"
    if node.kind == DICT:
        half = len(node.operands) // 2
        return "a key" if index < half else f"[{_short(node.operands[index - half])}]"
    if node.kind == OBJECT:
        _, names, slots = node.rest
        return f".{[*names, *slots][index]}"
    return "an element" if node.kind == SET else f"[{index}]"


def _parts_of_function(fun: Any) -> Iterator[tuple[str, Any]]:
    name = function_name(fun)
    for variable, cell in zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True):
        try:
            yield f"closure variable {variable!r} of {name}", cell.cell_contents
        except ValueError:
            pass  # not yet set
    if not byvalue.importable(fun):
        for variable in sorted(byvalue.global_names(fun)):
            if variable in fun.__globals__:
                yield f"global {variable!r} of {name}", fun.__globals__[variable]
    for index, default in enumerate(fun.__defaults__ or ()):
        yield f"default {index} of {name}", default


def _parts_of_object(obj: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(obj, "func", None)
    if callable(inner) and hasattr(obj, "keywords"):  # a partial
        yield ".func", inner
        for index, value in enumerate(obj.args):
            yield f".args[{index}]", value
        for name, value in obj.keywords.items():
            yield f".keywords[{name!r}]", value
    for name, value in list(getattr(obj, "__dict__", {}).items()):
        yield f".{name}", value
    for cls in type(obj).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if isinstance(name, str) and hasattr(obj, name):
                yield f".{name}", getattr(obj, name)
    yield from (("its class", type(obj)),) if type(obj).__module__ != "builtins" else ()


# -- words -----------------------------------------------------------------------------------


def _too_deep(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, RecursionError) or "RecursionError" in str(error):
            return True
        error = error.__cause__
    return False


def _kind(offender: Any) -> str:
    name = type(offender).__name__
    if isinstance(offender, type):
        return "a class"
    return _KINDS.get(name) or f"a{'n' if name[:1].lower() in 'aeiou' else ''} {name}"


def _shown(obj: Any) -> str:
    try:
        return _short(obj)
    except Exception:
        return f"<{type(obj).__name__}>"


def _short(obj: Any) -> str:
    if type(obj) in (str, bytes):
        obj = obj[:MAX_TEXT]
    elif isinstance(obj, (list, tuple, dict, set, frozenset)):
        return f"<{type(obj).__name__} with {len(obj)} elements>"
    text = " ".join(repr(obj).split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 2 * MAX_TEXT else text[: 2 * MAX_TEXT] + "..."

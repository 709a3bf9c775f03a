"""What a value, or a function, is made of, as a short text that another process comes to as well.

Of a function count its code, its defaults and the values that it closes over; and the same of the functions and classes
that it mentions, and the numbers and texts, if they are not an installed package's.  What does not count: comments,
docstrings, names of local variables, where it stands in its file, lists and dicts among the globals.
"""

from __future__ import annotations

import copyreg
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import _lru_cache_wrapper
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from runforrest.errors import UnpicklableError
from runforrest.graph.decorator import Deferred
from runforrest.mapping.imports import codes, imported, is_installed, is_own

LENGTH = 16                        # bytes of a digest
_HAS_DOCSTRING = getattr(inspect, "CO_HAS_DOCSTRING", 0)     # a flag of code objects, from Python 3.14 on
_KINDS_OF_CODE = 0x3AF             # flags that tell a generator from a function, and the like; not NESTED, NOFREE
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_OF_CLASS = (FunctionType, staticmethod, classmethod, property, _lru_cache_wrapper)
_NOT_OF_CLASS = ("__doc__", "__module__", "__qualname__", "__firstlineno__", "__annotate__", "__annotate_func__")


def of_value(value: Any, what: str = "") -> str:
    """Of an argument.  Raises UnpicklableError for what can't be taken apart, and so can't be pickled.

    what  how people are told of it
    """
    try:
        return _Digest().of(value).hex()
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UnpicklableError(f"cannot pickle {what or _name(type(value))}: {reason}", path="",
                               offender=_name(type(value))) from error


def of_function(function: Any) -> str:
    """Of whatever can be called; it is another one in another minor version of Python."""
    return _hash("python", sys.version_info[:2], _Digest().softly(function)).hex()


class _Digest:
    """Digests of values, by what pickle would take them for."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}      # with the value, so that its id is nobody else's
        self._open: dict[int, int] = {}
        self._by_type: dict[type, Callable[[Any], bytes]] = {
            tuple: self._sequence, list: self._sequence, set: self._set, frozenset: self._set, dict: self._dict,
            FunctionType: self._function, CodeType: self._code, MethodType: self._method,
            BuiltinFunctionType: self._builtin, ModuleType: lambda module: _hash("module", module.__name__),
            staticmethod: self._method_of_class, classmethod: self._method_of_class, property: self._property,
            _lru_cache_wrapper: lambda cached: _hash("cached", self.of(cached.__wrapped__)),
            Deferred: lambda decorated: _hash("deferred", self.of(decorated.__wrapped__))}

    def of(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _PLAIN:
            return _hash(kind.__name__, hex(value) if kind is int else value)
        key = id(value)
        if key in self._open:
            return _hash("again", len(self._open) - self._open[key])
        if key not in self._known:
            self._open[key] = len(self._open)
            try:
                known = self._by_type.get(kind)
                digest = known(value) if known else self._class(value) if isinstance(value, type) else \
                    self._instance(value)
            finally:
                del self._open[key]
            self._known[key] = value, digest
        return self._known[key][1]

    def softly(self, value: Any) -> bytes:
        """The same; of what can't be taken apart (a lock, an open file) only what it is."""
        try:
            return self.of(value)
        except Exception:
            return _hash("opaque", _name(type(value)))

    def _all(self, values: Iterable[Any]) -> list[bytes]:
        return [self.of(value) for value in values]

    # -- data ------------------------------------------------------------------------------

    def _sequence(self, value: Any) -> bytes:
        return _hash(type(value).__name__, *self._all(value))

    def _set(self, value: Any) -> bytes:
        return _hash(type(value).__name__, *sorted(self._all(value)))

    def _dict(self, value: Any) -> bytes:
        return _hash("dict", *sorted(_hash(self.of(k), self.of(v)) for k, v in value.items()))

    def _instance(self, value: Any) -> bytes:
        if type(value).__module__ == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject:
            return _hash("array", _name(type(value)), value.dtype.descr, value.shape, value.tobytes())
        reduce = copyreg.dispatch_table.get(type(value))
        made = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(made, str):
            return _hash("name", getattr(value, "__module__", None), made)
        function, arguments, state, items, pairs = (*made, None, None, None)[:5]
        return _hash("made", self.of(function), self.of(arguments), self.of(state), *self._all(items or ()),
                     "pairs", *self._all(pairs or ()))

    # -- code ------------------------------------------------------------------------------

    def _function(self, value: Any) -> bytes:
        if is_installed(value.__code__.co_filename):
            return _hash("function", value.__module__, value.__qualname__)
        closed = [self._cell(cell) for cell in value.__closure__ or ()]
        return _hash("function", self._code(value.__code__), self.softly(value.__defaults__),
                     self.softly(value.__kwdefaults__), *closed, "globals", *self._globals(value))

    def _cell(self, cell: Any) -> bytes:
        try:
            return self.softly(cell.cell_contents)
        except ValueError:                      # nothing is in it yet
            return _hash("empty")

    def _globals(self, function: Any) -> Iterator[bytes]:
        from runforrest.graph.byvalue import global_names  # loads dill
        attributes = {name for code in codes(function.__code__) for name in code.co_names}
        seen: set[int] = set()
        for name in sorted(global_names(function) & set(function.__globals__)):
            value = function.__globals__[name]
            yield from self._mentioned(name, value)
            if isinstance(value, ModuleType):
                yield from self._of_module(name, value, attributes, seen)
        for name, module in imported(function):
            yield from self._of_module(name, module, attributes, seen)

    def _of_module(self, name: str, module: ModuleType, attributes: set[str], seen: set[int]) -> Iterator[bytes]:
        """What is mentioned of a module of one's own, and of modules in it."""
        if id(module) in seen or not is_own(module):
            return
        seen.add(id(module))
        for attribute in sorted(attributes & set(vars(module))):
            value = vars(module)[attribute]
            yield from self._mentioned(f"{name}.{attribute}", value)
            if isinstance(value, ModuleType):
                yield from self._of_module(f"{name}.{attribute}", value, attributes, seen)

    def _mentioned(self, name: str, value: Any) -> Iterator[bytes]:
        if _is_constant(value) or isinstance(value, (FunctionType, type, _lru_cache_wrapper)):
            yield _hash(name, self.softly(value))

    def _code(self, code: CodeType) -> bytes:
        constants = code.co_consts[1:] if _has_docstring(code) else code.co_consts
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _KINDS_OF_CODE
        return _hash("code", code.co_code, getattr(code, "co_exceptiontable", b""), counts, code.co_names,
                     code.co_freevars, code.co_cellvars, *self._all(constants))

    def _method(self, value: Any) -> bytes:
        return _hash("method", self.of(value.__func__), self.of(value.__self__))

    def _builtin(self, value: Any) -> bytes:
        bound = value.__self__
        return _hash("builtin", value.__module__, value.__qualname__,
                     b"" if bound is None or isinstance(bound, ModuleType) else self.of(bound))

    def _class(self, value: Any) -> bytes:
        if _is_of_installed_module(value):
            return _hash("class", _name(value))
        own = [_hash(name, self.softly(part)) for name, part in sorted(vars(value).items())
               if name not in _NOT_OF_CLASS and (_is_constant(part) or isinstance(part, _OF_CLASS))]
        return _hash("class", value.__qualname__, *self._all(value.__bases__), *own)

    def _method_of_class(self, value: Any) -> bytes:
        return _hash(type(value).__name__, self.softly(value.__func__))

    def _property(self, value: Any) -> bytes:
        return _hash("property", *map(self.softly, (value.fget, value.fset, value.fdel)))


def _hash(*parts: Any) -> bytes:
    """Of bytes, and of the texts of everything else; each with its length, so that no two lists of parts are alike."""
    found = hashlib.blake2b(digest_size=LENGTH)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "big"))
        found.update(data)
    return found.digest()


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_constant(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) in (tuple, frozenset) and all(map(_is_constant, value)))


def _has_docstring(code: CodeType) -> bool:
    if _HAS_DOCSTRING:
        return bool(code.co_flags & _HAS_DOCSTRING)
    first = code.co_consts[0] if code.co_consts else None
    return isinstance(first, str) and not code.co_name.startswith("<")


def _is_of_installed_module(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return kind.__module__ != "__main__" and (module is None or is_installed(getattr(module, "__file__", None)))

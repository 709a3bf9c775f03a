"""Calls of one function of the main program, again and again: the function is pickled once.

Imported only when it is needed, as it loads dill.
"""

from __future__ import annotations

import io
import os
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from .byreference import PROTOCOL, ByReference
from .byvalue import dumps as dump_by_value
from .byvalue import global_names, importable
from .rebuild import load_function
from .task import Task

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_MOST = 100                        # functions that are remembered
_STANDARD = os.path.dirname(os.__file__) + os.sep
_MISSING = object()
_known: dict[int, tuple[list[Any], bytes]] = {}


def dumps(task: Task) -> bytes | None:
    """The pickle of a call with plain arguments; None if it has to be pickled as a whole.

    A class of the main program must be in the same pickle as its instances, so there may be none here.
    The remembered pickle counts as long as everything that the function refers to is the very same
    object, and one that can't change.
    """
    if not SCALARS.issuperset(map(type, (*task._args, *task._kwargs.values()))):
        return None
    fun: FunctionType = task._fun
    parts = _parts(fun)
    if parts is None:
        return None
    known = _known.get(id(fun))
    if known is None or len(known[0]) != len(parts) or any(a is not b for a, b in zip(known[0], parts, strict=True)):
        if len(_known) >= _MOST:
            _known.clear()
        known = _known[id(fun)] = (parts, dump_by_value(fun))      # holding the function keeps its id
    file = io.BytesIO()
    _WithFunction(file, fun, known[1]).dump(task)
    return file.getvalue()


class _WithFunction(ByReference):
    """Puts the remembered pickle where the function would be."""

    def __init__(self, file: io.BytesIO, fun: FunctionType, data: bytes) -> None:
        super().__init__(file, PROTOCOL)
        self._fun, self._data = fun, data

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._fun:
            return load_function, (self._data,)
        return super().reducer_override(obj)


def _parts(fun: FunctionType) -> list[Any] | None:
    """The objects that the function's pickle is made of; None if one of them may change unseen."""
    parts: list[Any] = []
    todo, seen = [fun], {id(fun)}
    for each in todo:              # grows while it is walked
        defaults = each.__defaults__ or ()
        if each.__closure__ or each.__dict__ or each.__kwdefaults__ or not SCALARS.issuperset(map(type, defaults)):
            return None
        parts += (each, each.__code__, *defaults)
        found = each.__globals__
        for name in global_names(each):
            value = found.get(name, _MISSING)
            parts.append(value)
            kind = type(value)
            if kind is FunctionType and not importable(value):
                if id(value) not in seen:
                    seen.add(id(value))
                    todo.append(value)
            elif not (kind in SCALARS or kind is FunctionType or kind is BuiltinFunctionType or value is _MISSING
                      or (kind is ModuleType and _is_installed(value))):
                return None
    return parts


def _is_installed(module: ModuleType) -> bool:
    """Whether dill pickles the module by its name; modules beside the script it may pickle with their contents."""
    file = getattr(module, "__file__", None)
    return file is None or file.startswith(_STANDARD)

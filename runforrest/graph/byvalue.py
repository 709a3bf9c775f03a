"""Pickling what can't be imported elsewhere: functions and classes of the main program, closures.

Imported only when it is needed, as it loads dill.  What it writes is read by plain pickle.

``dill.dumps(obj, recurse=True)`` is right in most cases, but (dill 0.4.1, each one is a test):

* functions that call each other, and an inner function that calls itself, end in RecursionError:
  dill looks for the globals of the globals without end;
* each function gets globals of its own: what one sets by ``global``, the other does not see;
* names of attributes count as names of globals: ``x.data`` drags in a global ``data``;
* enums and TypeVars of ``__main__`` are pickled by reference, which nobody else can resolve;
* methods of a NamedTuple are dropped.

``recurse=False`` is no way out: functions then refer to the globals of the ``__main__`` of the
process that loads them.  So functions, enums, TypeVars are saved here, and all else by dill.
"""

from __future__ import annotations

import dis
import io
import sys
from collections import namedtuple
from enum import Enum, EnumMeta, Flag
from types import CodeType, FunctionType
from typing import Any, TypeVar

import dill
from dill._dill import _create_function, _save_with_postproc, save_type

from .byreference import PROTOCOL, NotImportable
from .rebuild import make_enum, make_globals, make_typevar, set_function_state, set_globals

_MAIN = ("__main__", "__mp_main__")
_READS_GLOBAL = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def dumps(obj: Any) -> bytes:
    try:
        return _dump(obj, late=False)
    except _Unfinished:
        return _dump(obj, late=True)


def _dump(obj: Any, late: bool) -> bytes:
    file = io.BytesIO()
    _ByValue(file, late).dump(obj)
    return file.getvalue()


class _Unfinished(NotImportable):
    """A class is needed while it is still being saved."""


class _ByValue(dill.Pickler):  # type: ignore[misc]
    """dill's pickler, with other ways to save functions, enums, TypeVars and named tuples.

    dill's ``_postproc`` lists, for each object that is being saved, what is to be done after it
    exists.  Contents of functions that need an unfinished class are put there.  Usually this is
    seen from the direct references.  With ``late`` the contents of all functions wait for the
    outermost object: that also resolves references through data (a registry of classes), but is
    too late for a metaclass.
    """

    def __init__(self, file: io.BytesIO, late: bool) -> None:
        super().__init__(file, protocol=PROTOCOL, recurse=True)
        self._late = late
        self._shared: dict[int, dict[str, Any]] = {}  # globals of the copy, by id() of the globals
        self._given: dict[int, set[str]] = {}  # names that have been copied
        self._modules: dict[int, object] = {}  # name of the module, by id() of the copy

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        cls = type(obj)
        if id(obj) not in self.memo:
            if cls is FunctionType:
                if not importable(obj):
                    return self._save_function(obj)
            elif issubclass(cls, type):
                if not importable(obj) and obj.__module__ != "builtins":
                    return self._save_class(obj)
            elif cls is TypeVar and obj.__module__ in _MAIN:
                return self._save_typevar(obj)
            elif cls is dict and id(obj) in self._modules:
                self.save_reduce(make_globals, (self._modules[id(obj)],), obj=obj)
                return None
        super().save(obj, save_persistent_id)
        return None

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__module__", None) in _MAIN:
            raise NotImportable(f"{obj!r} belongs to the main program and can't be pickled by value")
        super().save_global(obj, name)

    # -- functions -------------------------------------------------------------------------

    def _save_function(self, fun: FunctionType) -> None:
        source = fun.__globals__
        key = id(source)
        module = source.get("__name__", fun.__module__)
        shared = self._shared.setdefault(key, {})
        self._modules[id(shared)] = module
        given = self._given.setdefault(key, {"__name__", "__builtins__"})
        fresh = {name: source[name] for name in global_names(fun) if name in source and name not in given}
        given.update(fresh)
        details = function_details(fun, module)
        now: list[Any] = []
        state: Any = None
        if self._late and self._postproc:
            details["__defaults__"] = fun.__defaults__
            contents = [(set_globals, (shared, fresh)), (set_function_state, (fun, fun.__dict__, details))]
            self._outermost().extend(contents)
        else:
            state = (fun.__dict__, details)
            for name, value in fresh.items():
                self._postproc.get(id(value), now).append((set_globals, (shared, {name: value})))
        defaults = None if state is None else fun.__defaults__
        reduction = (fun.__code__, shared, fun.__name__, defaults, fun.__closure__)
        _save_with_postproc(self, (_create_function, reduction, state), obj=fun, postproc_list=now)

    def _outermost(self) -> list[Any]:
        todo: list[Any] = next(iter(self._postproc.values()))
        return todo

    # -- classes ---------------------------------------------------------------------------

    def _save_class(self, cls: type) -> None:
        if id(cls) in self._postproc:
            raise _Unfinished(f"the definition of class {cls.__qualname__} needs the class itself")
        if isinstance(cls, EnumMeta):
            self._save_enum(cls)
        elif cls.__bases__ == (tuple,) and hasattr(cls, "_field_defaults"):
            plain = vars(namedtuple("plain", cls._fields))  # type: ignore[attr-defined]
            own = [(name, value) for name, value in vars(cls).items() if name not in plain]
            save_type(self, cls, postproc_list=[(setattr, (cls, name, value)) for name, value in own])
        else:
            save_type(self, cls)

    def _save_enum(self, cls: EnumMeta) -> None:
        members = {name: member._value_ for name, member in vars(cls)['_member_map_'].items()}
        own = {
            name: value
            for name, value in vars(cls).items()
            if name not in members and name not in _ENUM_INTERNALS and not _is_of_enum(value)
        }
        new = getattr(cls, "_new_member_", None) or getattr(cls, "__new_member__", None)
        if isinstance(new, FunctionType) and new.__module__ != "enum":
            own["__new__"] = new
        bases = cls.__bases__
        functions = {name: own.pop(name) for name in list(own) if name not in _NEEDED_BY_MEMBERS}
        _save_with_postproc(
            self,
            (make_enum, (type(cls), cls.__name__, bases, own, members, cls.__qualname__, cls.__module__)),
            obj=cls,
            postproc_list=[(setattr, (cls, name, value)) for name, value in functions.items()],
        )

    def _save_typevar(self, var: Any) -> None:
        variance = (var.__covariant__, var.__contravariant__)
        arguments = (var.__name__, var.__constraints__, var.__bound__, *variance)
        self.save_reduce(make_typevar, arguments, obj=var)


# -- what a function needs -----------------------------------------------------------------


def importable(obj: Any) -> bool:
    """Whether another process gets this very object by importing it."""
    module, path = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "<")
    if not isinstance(module, str) or module in _MAIN or "<" in path:
        return False
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is obj


def function_details(fun: FunctionType, module: object) -> dict[str, Any]:
    names = ("__doc__", "__kwdefaults__", "__annotations__")
    details = {name: getattr(fun, name) for name in names if getattr(fun, name)}
    if fun.__qualname__ != fun.__name__:
        details["__qualname__"] = fun.__qualname__
    if fun.__module__ != module:
        details["__module__"] = fun.__module__
    return details


_names: dict[int, tuple[CodeType, frozenset[str]]] = {}


def global_names(fun: FunctionType) -> frozenset[str]:
    """The globals that a function or a function inside it mentions.

    From the instructions, as ``co_names`` has the names of attributes as well.
    """
    code = fun.__code__
    known = _names.get(id(code))
    if known is None:
        if len(_names) > 1000:
            _names.clear()
        known = _names[id(code)] = (code, frozenset(_global_names(code)))  # holding the code keeps its id
    return known[1]


def _global_names(code: CodeType) -> set[str]:
    names: set[str] = set()
    todo = [code]
    while todo:
        code = todo.pop()
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        if code.co_names:
            names.update(step.argval for step in dis.get_instructions(code) if step.opname in _READS_GLOBAL)
    return names


# -- what an enum is made of -----------------------------------------------------------------

# These take part in the making of the members; other methods are set afterwards, because they
# may refer to the class.
_NEEDED_BY_MEMBERS = frozenset(
    {"__new__", "__init__", "_missing_", "_ignore_", "_generate_next_value_", "__doc__"}
)


class _Plain(Enum):
    A = 1


class _Bits(Flag):
    A = 1


_GIVEN_BY_PYTHON = {"__new__", "__module__", "__qualname__", "__dict__", "__weakref__"}
_ENUM_INTERNALS = {*vars(_Plain), *vars(_Bits), *_GIVEN_BY_PYTHON} - {"__doc__", "A"}


def _is_of_enum(value: Any) -> bool:
    return getattr(value, "__module__", None) == "enum"

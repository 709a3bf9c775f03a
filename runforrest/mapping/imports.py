"""What is a module of one's own, and which of these a function imports when it is called."""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec, resolve_name
from types import CodeType, FunctionType, ModuleType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LOADS_CONSTANT = ("LOAD_CONST", "LOAD_SMALL_INT")
_IN_C = ("built-in", "frozen")


@lru_cache(maxsize=1000)
def is_installed(file: str | None) -> bool:
    """Whether a module's file is Python's own, or an installed package's; None stands for one in C."""
    if file is None or file.startswith("<frozen"):
        return True
    parts = file.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    roots = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), _PACKAGE)
    return any(file.startswith(root + os.sep) for root in roots)


def is_own(module: ModuleType) -> bool:
    """Whether this is no installed module; a folder without ``__init__.py`` has no file, and is one's own, too."""
    return not is_installed(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None))


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def imported(function: FunctionType) -> Iterator[tuple[str, ModuleType]]:
    """The modules of one's own that its import statements name, loaded; what can't be, the call itself will tell."""
    for name in sorted(_named(function)):
        try:
            if _is_own_name(name.partition(".")[0]):
                yield name, import_module(name)
        except (Exception, SystemExit):
            continue


def _named(function: FunctionType) -> set[str]:
    """Modules, and what may be a module in one (``from package import name``)."""
    package, found = function.__globals__.get("__package__") or "", set()
    for code in codes(function.__code__):
        constants = []
        for step in dis.get_instructions(code):
            if step.opname in _LOADS_CONSTANT:
                constants.append(step.argval)
            elif step.opname == "IMPORT_NAME":
                level, names = constants[-2:]
                try:
                    name = resolve_name("." * level + step.argval, package) if level else step.argval
                except ImportError:
                    continue
                found |= {name, *(f"{name}.{each}" for each in names or ())}
    return found


def _is_own_name(name: str) -> bool:
    """Of a module that need not be loaded yet."""
    if name in sys.modules:
        return is_own(sys.modules[name])
    spec = find_spec(name)
    if spec is None or spec.origin in _IN_C:
        return False
    return not is_installed(spec.origin or next(iter(spec.submodule_search_locations or ()), None))

"""Results, where the main program is that the calls came from.

A class of the main program is pickled by value, as no other process could import it, and so each who loads it makes a
class of its own.  In the program a result would be no instance of the class that it knows, and ``except`` would miss an
exception of it.  `loads` takes the program's own class where there is one of that name.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from typing import Any

from . import pickling, rebuild

_MAIN = "__main__"


def loads(data: bytes) -> Any:
    """As `graph.loads`, but with the classes of this process's main program."""
    if _MAIN.encode() not in data:
        return pickling.loads(data)
    try:
        return _AtHome(io.BytesIO(data)).load()
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":
            raise
        return pickling.loads(data)


class _AtHome(pickle.Unpickler):
    """Finds in the place of what makes classes, by dill and by us, methods that look first."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._own: list[type] = []                  # classes of the program that were met
        self._instead = {("dill._dill", "_create_type"): self._type, ("types", "new_class"): self._new_class,
                         (rebuild.__name__, "make_enum"): self._enum, ("builtins", "setattr"): self._setattr}

    def find_class(self, module: str, name: str) -> Any:
        return self._instead.get((module, name)) or super().find_class(module, name)

    def _type(self, meta: Any, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        return self._found(name, body) or meta(name, bases, body)

    def _new_class(self, name: str, bases: Any, keywords: Any = None, fill: Any = None) -> Any:
        """A generic one: ``fill`` is a partial that has the body."""
        body = getattr(fill, "keywords", {}).get("source", {})
        return self._found(name, body) or types.new_class(name, bases, keywords, fill)

    def _enum(self, meta: Any, name: str, bases: Any, own: Any, members: dict[str, Any], qualname: str,
              module: str) -> Any:
        if name == qualname:
            found = self._found(name, {"__module__": module, **own, **members})
            if found is not None:
                return found
        return rebuild.make_enum(meta, name, bases, own, members, qualname, module)

    def _setattr(self, target: Any, name: str, value: Any) -> None:
        """What it has been given there, the program's own class has already, and better."""
        if not any(target is own for own in self._own):
            setattr(target, name, value)

    def _found(self, name: str, body: dict[str, Any]) -> type | None:
        """The class of this name, if it has all that this one has: in another program it may be a different one."""
        found = getattr(sys.modules.get(_MAIN), name, None) if body.get("__module__") == _MAIN else None
        if not isinstance(found, type) or found.__module__ != _MAIN or found.__qualname__ != name:
            return None
        if not vars(found).keys() >= {key for key in body if not key.startswith("__")}:     # Python adds others
            return None
        self._own.append(found)
        return found

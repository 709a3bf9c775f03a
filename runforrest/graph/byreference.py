"""Pickling what another process can import: fast, by the pickler in C."""

from __future__ import annotations

import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import Pickler
    from typing import Any
else:
    try:
        from _pickle import Pickler  # the module `pickle` would load `re` into every child
    except ImportError:  # not CPython
        from pickle import Pickler

PROTOCOL = 5  # the newest that Python 3.10 reads; pickles may be read by another Python


def dumps(obj: Any) -> bytes:
    file = io.BytesIO()
    ByReference(file, PROTOCOL).dump(obj)
    return file.getvalue()


class ByReference(Pickler):
    """Gives up at the first function or class that another process could not import."""

    def reducer_override(self, obj: Any) -> Any:
        module = getattr(obj, "__module__", None)  # of an instance: that of its class
        if module == "__main__" or module == "__mp_main__":  # not `in`: it may be anything
            raise NotImportable(obj)
        named = isinstance(obj, type) or type(obj) is _Function
        if named and (module is None or "<" in obj.__qualname__):  # <locals>, <lambda>
            raise NotImportable(obj)
        return NotImplemented


_Function = type(dumps)


class NotImportable(Exception):
    """Another process can't import this by its name: it must be pickled by value."""

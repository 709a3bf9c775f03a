"""Values of keys as bytes: JSON where that says all, so that nothing needs to be trusted; else a pickle."""

from __future__ import annotations

import json
from typing import Any

from runforrest.errors import Unloadable, Untrusted
from runforrest.graph import athome, dumps

_JSON, _PICKLE = b"j", b"p"
_PLAIN = (type(None), bool, int, float, str)
DEEPEST = 100
LARGEST = 10**600


def encode(value: Any) -> bytes:
    """Raises UnpicklableError."""
    if _is_plain(value):
        return _JSON + json.dumps(value).encode("utf-8", "surrogatepass")
    return _PICKLE + dumps(value)[0]


def decode(data: bytes, objection: str = "") -> Any:
    """The value; ``objection``: why no pickle may be loaded, or ''.  Raises Untrusted, Unloadable."""
    try:
        if data[:1] == _JSON:
            return json.loads(data[1:])
        if data[:1] == _PICKLE and not objection:
            return athome.loads(data[1:])
    except Exception as error:
        raise Unloadable(f"the value can't be loaded here: {type(error).__name__}: {error}") from error
    if data[:1] == _PICKLE:
        raise Untrusted(f"the value was not unpickled: {objection}")
    raise Unloadable("the value is damaged, or was written by a newer runforrest")


def _is_plain(value: Any) -> bool:
    """Whether JSON gives back exactly this.  Not a list that is in it twice: it would come back as two."""
    seen: set[int] = set()

    def plain(each: Any, depth: int) -> bool:
        kind = type(each)
        if kind in _PLAIN:
            if kind is int:
                return bool(abs(each) < LARGEST)        # Python reads no longer numbers from text
            return kind is not float or each == each    # NaN is no JSON
        if kind not in (list, dict) or depth > DEEPEST or id(each) in seen:
            return False
        seen.add(id(each))
        if kind is list:
            return all(plain(item, depth + 1) for item in each)
        return all(type(name) is str and plain(item, depth + 1) for name, item in each.items())
    return plain(value, 0)

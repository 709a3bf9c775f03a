"""The names of a key's files.

``<key>``                                              the anchor: a symbolic link whose text is the lineage, and
                                                       the whole key if it is too long for a file name
``<key>~<lineage>~<token>~<tag>~<code>~<owner>``       its state: there is one, which is only ever renamed

The key is quoted, so that any text is one part of a path.  ``token`` counts the claims; ``tag`` is random, so that
the name is its maker's alone.  ``code``: ``L<milliseconds>`` leased for so long, ``H`` leased while its owner's heart
beats, ``P`` permanent from the claim on, ``F`` free, ``D`` done, ``V`` done, and there is a value.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

LEASED, HEARTBEAT, PERMANENT, FREE, DONE, VALUE = "L", "H", "P", "F", "D", "V"
HELD = (LEASED, HEARTBEAT)
FOR_GOOD = (PERMANENT, DONE, VALUE)
SEPARATOR = "~"
LONGEST = 120                      # bytes of a quoted key; a longer one is cut, and its hash added
LONGEST_OWNER = 60
_KEPT, _HASHED = 60, "%h"          # "%h" is no quoted byte
_RANK = {LEASED: 0, HEARTBEAT: 0, PERMANENT: 0, FREE: 1, DONE: 2, VALUE: 2}
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+,@()[]:")


class State(NamedTuple):
    """A parsed name of a state file."""

    quoted: str
    lineage: str
    token: int
    tag: str
    code: str
    milliseconds: int
    owner: str

    @property
    def rank(self) -> tuple[int, int]:
        """Of two names that a listing shows of one file, while it is renamed, the later is the higher."""
        return self.token, _RANK[self.code]

    def __str__(self) -> str:
        code = f"{self.code}{self.milliseconds}" if self.code == LEASED else self.code
        return SEPARATOR.join((self.quoted, self.lineage, str(self.token), self.tag, code, self.owner))


def parse(name: str) -> State | None:
    """The state that a file name states; None for an anchor, or a foreign file."""
    parts = name.split(SEPARATOR)
    if len(parts) != 6 or not parts[2].isdecimal() or parts[4][:1] not in _RANK:
        return None
    code, rest = parts[4][0], parts[4][1:]
    if (code == LEASED) != rest.isdecimal():
        return None
    return State(parts[0], parts[1], int(parts[2]), parts[3], code, int(rest or 0), parts[5])


def quote(key: str, fold: bool = False, longest: int = LONGEST) -> str:
    """The key as it may stand in a file name.

    fold     the filesystem takes A and a for the same
    longest  bytes; 0: as long as it takes
    """
    text = "".join(c if c in _PLAIN and not (fold and c.isupper()) else _percent(c) for c in key)
    if text.startswith("."):
        text = "%2E" + text[1:]
    if len(text) > longest > 0:
        text = re.sub("%[0-9A-F]?$", "", text[:_KEPT])
        text += _HASHED + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return text


def unquote(quoted: str) -> str | None:
    """The key; None if the name does not hold all of it."""
    if _HASHED in quoted:
        return None
    data = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), quoted.encode())
    return data.decode("utf-8", "surrogatepass")


def owner_part(owner: str) -> str:
    """An owner's name as it may stand in a file name."""
    return "".join(c if c in _PLAIN else "_" for c in owner)[:LONGEST_OWNER] or "_"


def shard_of(key: str, shards: int) -> str:
    """The folder for this key, of so many."""
    return shard_name(int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:4], "big"), shards)


def shard_name(number: int, shards: int) -> str:
    """The name of one of so many folders."""
    return f"{number % shards:0{len(f'{shards - 1:x}')}x}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))

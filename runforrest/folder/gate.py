"""One gate: a set of tasks for which others wait, and its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from runforrest.errors import InvalidArgument
from runforrest.model.names import SUFFIX, Name

ANYHOW = "-any"                    # ends the name of a gate that opens however its predecessors end
DIGITS = 20                        # of a gate's name
SHOWN = 16                         # predecessors that the envelope names, besides the gate
NO_ID = "~"                        # begins what is no task's id


class Gate(NamedTuple):
    """A set of predecessors.  ``even_if_failed``: it opens when all have ended, however that was."""

    name: str
    ids: tuple[str, ...]
    even_if_failed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands in the envelope: the name is a checksum of all, so a signature covers them."""
        return {"gate": self.name, "tasks": len(self.ids),
                **({"ids": list(self.ids)} if len(self.ids) <= SHOWN else {})}

    def definition(self) -> bytes:
        """The predecessors, a line each: of this the name is a checksum."""
        return _definition(self.ids)


def gate_of(ids: Iterable[str], even_if_failed: bool = False) -> Gate:
    """The gate of these predecessors.  Raises InvalidArgument for what can't be a task's id."""
    unique = tuple(sorted(set(ids)))
    for id in unique:
        if not is_id(id):
            raise InvalidArgument(f"after: {id!r:.300} can't be a task's id", argument="after")
    import hashlib  # late: few need it, and it takes its time
    name = hashlib.sha256(_definition(unique)).hexdigest()[:DIGITS]
    return Gate(name + ANYHOW * even_if_failed, unique, even_if_failed)


def _definition(ids: Iterable[str]) -> bytes:
    return "".join(f"{id}\n" for id in ids).encode("utf-8", "surrogateescape")


def is_id(text: object) -> bool:
    """Whether it is one plain part of a path, as ids are."""
    name = Name.parse(f"{text}{SUFFIX}") if isinstance(text, str) else None
    return name is not None and name.id == text and not text.startswith(NO_ID)


def is_gate(text: object) -> bool:
    """Whether it is a gate's name."""
    if not isinstance(text, str):
        return False
    digits = text.removesuffix(ANYHOW)
    return len(digits) == DIGITS and not set(digits) - set("0123456789abcdef")

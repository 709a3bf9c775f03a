"""What goes wrong with a map, and how messages say it."""

from __future__ import annotations

from runforrest.errors import FolderError, RunforrestError


class MapFailed(RunforrestError, RuntimeError):
    """Some calls of a map failed; all others are done, and kept.

    Attribute: ``failed``, the exceptions by the position of their argument; empty on ranks other than the root.
    """


class MapInUse(FolderError, RuntimeError):
    """Another program is at work on the same map.  Attribute: ``owner``, as far as it is known."""


MOST_NAMED = 5


def named(failed: dict[int, BaseException]) -> str:
    """The first of them, for a message."""
    first = sorted(failed.items())[:MOST_NAMED]
    found = [f"{index} ({type(error).__name__}: {error!s:.200})" for index, error in first]
    return ", ".join(found) + (f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else "")

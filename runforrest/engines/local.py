"""Runners on this host."""

from __future__ import annotations

from collections.abc import Sequence

from runforrest.engines.engine import Engine
from runforrest.engines.held import Held
from runforrest.engines.start import Start


def engine(starts: Sequence[Start]) -> Engine:
    """Each runner in a session of its own: a Ctrl-C in the terminal reaches it only through `Engine.stop`."""
    return Engine([Held(start) for start in starts])

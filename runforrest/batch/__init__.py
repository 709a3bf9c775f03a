"""Files of command lines, as disBatch runs them: `runforrest batch`, and `DisBatcher` for programs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.batch.batcher import DisBatcher

__all__ = ["DisBatcher"]


def __getattr__(name: str) -> object:
    if name != "DisBatcher":
        raise AttributeError(f"module 'runforrest.batch' has no attribute {name!r}")
    from runforrest.batch.batcher import DisBatcher
    return DisBatcher

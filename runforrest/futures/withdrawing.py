"""Taking tasks out of a list that nobody has started."""

from __future__ import annotations

from runforrest.folder import layout
from runforrest.folder.cancelling import Canceller
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name


def withdraw(folder: TaskFolder, ids: list[str]) -> set[str]:
    """Cancel those of these tasks that wait to be run; their ids.  What runs is left alone.  Raises OSError."""
    canceller = Canceller(folder, ids)
    if len(ids) > 1:
        canceller.cancel_dependent()                        # before those that they wait for
    canceller.cancel_unclaimed([Name(id) for id in canceller.left])     # most were never claimed
    if canceller.left:
        canceller.cancel_dependent()
    if canceller.left:
        canceller.cancel_unclaimed([name for name in folder.scan(layout.TODO) if name.id in canceller.left])
    return set(canceller.cancelled)

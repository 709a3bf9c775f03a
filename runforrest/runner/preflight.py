"""A look before anything runs: tasks that this Python can't load are better left where they are."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from runforrest.errors import Unloadable
from runforrest.folder import layout
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from runforrest.process.claimed import check_loadable

if TYPE_CHECKING:
    from runforrest.folder.frames import Record

LOOK_AT = 8                        # tasks; a list is mostly made by one program


def envelope_of(folder: TaskFolder, name: Name, place: str = layout.TODO) -> Record:
    """The envelope of a task in this folder of the list; {} if it is gone, damaged or not to be trusted."""
    try:
        fd = folder.fs.open_read(f"{place}/{name}")
    except OSError:
        return {}
    try:
        folder.fs.trust.check(fd, str(name))
        return StoredTask.read(fd, name).envelope
    except OSError:
        return {}
    finally:
        os.close(fd)


def check_first(folder: TaskFolder) -> None:
    """Raise Unloadable if one of the first tasks was pickled by a Python whose byte code this one misreads.

    Nothing is changed.  A task of another Python that comes later in the list ends in ``fail/`` as
    unloadable, without having run.
    """
    for name in islice(folder.scan(layout.TODO), LOOK_AT):
        try:
            check_loadable(envelope_of(folder, name))
        except Unloadable as error:
            raise Unloadable(f"{folder.fs.path(layout.TODO)}/{name}: {error}; nothing was started") from None

"""Writing the end of an attempt: the child's, the guard's or the runner's last word on it.

Loaded in every child.
"""

from __future__ import annotations

import errno
import os

from runforrest.folder import frames, layout, signing
from runforrest.folder.fsio import FileOps
from runforrest.model.names import TAGS, Name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.folder.frames import Record

#: a full or failing disk: worth trying again, the result is kept until it works
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOTCONN, errno.ETIMEDOUT)
#: the task's own file can't be appended to: the result goes beside it
NOT_APPENDABLE = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO)
#: it can't be written there either, as a permission was lost or a ticket has run out: that may pass, too
WAITED_OUT = (*PASSING, errno.EACCES, errno.EPERM)


class TakenOver(Exception):
    """The claim is gone: another runner has the task.  The frame was kept in ``dup/``."""


def new_tag(length: int = 4) -> str:
    """Random characters for a name that nobody else uses."""
    return "".join(TAGS[b % 36] for b in os.urandom(length))


def write_attempt(fs: FileOps, path: str, name: Name, record: Record | bytes, payload: bytes = b"",
                  force: bool = True, cut: int | None = None, later: bool = False) -> None:
    """Append an attempt's frame to the claimed file, or put it into ``tries/`` after a take-over.

    path    the claimed file, ``doing/<runner>/<name>``
    record  the attempt's record, or its JSON
    force   fsync before returning (durability ``normal`` and ``full``)
    later   `force_attempt` comes later: what is appended is not forced here
    cut     where the intact part of the file ends: what a dying child wrote behind it is dropped

    Raises TakenOver if the claim is no longer there, OSError if the disk fails (then the file is as
    it was).
    """
    if fs.trust.key:
        record = fs.trust.key.signed(signing.RESULT, name.id, record, payload)
    chunks = frames.encode(record, payload)
    if name.lost == 0:          # nobody else ever had it open
        try:
            fs.append(path, chunks, force and not later, cut)
            return
        except FileNotFoundError:
            keep_duplicate(fs, path, name, chunks)
            raise TakenOver(path) from None
        except OSError as error:
            if error.errno not in NOT_APPENDABLE:
                raise
    try:
        create_internal(fs, layout.TRIES, name.side(), chunks, force)
    except FileExistsError:     # an attempt to write it that failed half way: the name is ours alone
        fs.unlink(f"{layout.TRIES}/{name.side()}")
        fs.create(f"{layout.TRIES}/{name.side()}", chunks, force)
    if force:
        fs.force_folder(layout.TRIES)


def force_attempt(fs: FileOps, path: str, name: Name, anew: bool = False) -> None:
    """Force what was to be forced ``later``.  ``anew``: an earlier try failed.

    Raises OSError; not for a claim that is no longer there, as the commit will find out about that.
    """
    if name.lost:               # in a file of its own, which was forced at once
        return
    try:
        fs.force_file(path, anew)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NOT_APPENDABLE):
            raise


def keep_duplicate(fs: FileOps, path: str, name: Name, chunks: list[bytes]) -> None:
    """A result that came too late is kept for inspection; nothing is published."""
    try:
        runner = path.split("/")[1]
        create_internal(fs, layout.DUP, f"{name.side()[:-4]}.{runner}.{new_tag()}", chunks)
    except OSError:             # only for a person to look at; the task itself is with its new owner
        pass


def create_internal(fs: FileOps, folder: str, file: str, chunks: list[bytes], force: bool = False) -> None:
    """Create a file in an internal folder, which a leaving runner may just have tidied away."""
    try:
        fs.create(f"{folder}/{file}", chunks, force)
    except FileNotFoundError:
        for missing in (layout.INTERNAL, folder):
            try:
                fs.mkdir(missing)
            except FileExistsError:
                pass
        fs.create(f"{folder}/{file}", chunks, force)

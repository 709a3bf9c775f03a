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
#: what a file gives that the disk has lost, and for a while any file of a server that is away
DAMAGED = (errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO))
#: it can't be written there either, as a permission was lost or a ticket has run out: that may pass, too
WAITED_OUT = (*PASSING, errno.EACCES, errno.EPERM)


class TakenOver(Exception):
    """The claim is gone: another runner has the task.  The frame was kept in ``dup/``."""


def new_tag(length: int = 4) -> str:
    """Random characters for a name that nobody else uses."""
    return "".join(TAGS[b % 36] for b in os.urandom(length))


def write_attempt(fs: FileOps, path: str, name: Name, record: Record | bytes, payload: bytes = b"",
                  cut: int | None = None, beside: bool = False) -> None:
    """Append an attempt's frame to the claimed file, or put it into ``tries/`` after a take-over.

    Nothing is forced: `force_attempt` does that, before the task is published.

    path    the claimed file, ``doing/<runner>/<name>``
    record  the attempt's record, or its JSON
    cut     where the intact part of the file ends: what a dying child wrote behind it is dropped
    beside  leave the file alone

    Raises TakenOver if the claim is no longer there, OSError if the disk fails (then the file is as
    it was).
    """
    if fs.trust.key:
        record = fs.trust.key.signed(signing.RESULT, name.id, record, payload)
    chunks = frames.encode(record, payload)
    if name.lost == 0 and not beside:       # nobody else ever had it open
        try:
            fs.append(path, chunks, cut)
            return
        except FileNotFoundError:
            keep_duplicate(fs, path, name, chunks)
            raise TakenOver(path) from None
        except OSError as error:
            if error.errno not in NOT_APPENDABLE:
                raise
    try:
        create_internal(fs, layout.TRIES, name.side(), chunks)
    except FileExistsError:     # an attempt to write it that failed half way: the name is ours alone
        fs.unlink(side_file(name))
        fs.create(side_file(name), chunks)


def side_file(name: Name) -> str:
    """Where the record of an attempt is that must not, or can't, be in the task's own file."""
    return f"{layout.TRIES}/{name.side()}"


def force_attempt(fs: FileOps, path: str, name: Name, anew: bool = False) -> None:
    """Force what `write_attempt` has written, wherever that is.  ``anew``: an earlier try failed.

    Raises OSError; not for a claim that is no longer there, as the commit will find out about that.
    """
    try:
        if not name.lost and force_record(fs, path, anew):
            return
    except OSError:
        if not fs.exists(side_file(name)):
            raise
    force_record(fs, side_file(name), anew)


def force_record(fs: FileOps, path: str, anew: bool = False) -> bool:
    """Force one file; False if it is not there, or not to be written to."""
    try:
        fs.force_file(path, anew)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NOT_APPENDABLE):
            raise
        return False
    if path.startswith(layout.TRIES):
        fs.force_folder(layout.TRIES)
    return True


def keep_duplicate(fs: FileOps, path: str, name: Name, chunks: list[bytes]) -> None:
    """A result that came too late is kept for inspection; nothing is published."""
    try:
        runner = path.split("/")[1]
        create_internal(fs, layout.DUP, f"{name.side()[:-4]}.{runner}.{new_tag()}", chunks)
    except OSError:             # only for a person to look at; the task itself is with its new owner
        pass


def create_internal(fs: FileOps, folder: str, file: str, chunks: list[bytes]) -> None:
    """Create a file in an internal folder, which a leaving runner may just have tidied away."""
    try:
        fs.create(f"{folder}/{file}", chunks)
    except FileNotFoundError:
        fs.check_there()
        for missing in (layout.INTERNAL, folder):
            try:
                fs.mkdir(missing)
            except FileExistsError:
                pass
        fs.create(f"{folder}/{file}", chunks)

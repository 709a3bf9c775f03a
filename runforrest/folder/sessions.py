"""Saved sessions (`save_session`): pickles of dill, which are code like every task."""

from __future__ import annotations

import io
import os

from runforrest.errors import Untrusted
from runforrest.folder import frames, layout, signing
from runforrest.folder.attempts import create_internal, new_tag
from runforrest.folder.fsio import NOFOLLOW, FileOps


def save(fs: FileOps, session: bytes) -> str:
    """Keep a session as the list's own, signed if there is a key; returns its path."""
    chunks = [session]
    if fs.trust.key:
        chunks = frames.encode(fs.trust.key.signed(signing.SESSION, "", {"frame": signing.SESSION}, session), session)
    file = f"{layout.SESSION}.{new_tag()}"
    create_internal(fs, layout.TMP, file, chunks)
    fs.rename(f"{layout.TMP}/{file}", layout.SESSION)
    return fs.path(layout.SESSION)


def load(fs: FileOps, path: str) -> io.BufferedReader:
    """The session in this file, to be given to `dill.load_module`.

    One in the list's folder must be signed if there is a key; for another one, the user who names it answers.
    Raises OSError if it can't be read, and Untrusted if others may have written it.
    """
    here = _is_inside(fs, os.path.dirname(os.path.abspath(path)))
    own = here or _is_inside(fs, path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (NOFOLLOW if here else 0))
    try:
        fs.trust.check(fd, path)
        session = frames.read_range(fd, 0, os.fstat(fd).st_size)
        if own and fs.trust.key and not _is_signed(fd, session, fs.trust.key):
            raise Untrusted(f"the session {path} was not loaded, as nobody with the key of this list has signed it: "
                            f"save it again, with save_session=True")
    finally:
        os.close(fd)
    return io.BufferedReader(io.BytesIO(session))          # dill wants to peek


def _is_inside(fs: FileOps, path: str) -> bool:
    """Whether this leads into the list, by whatever name."""
    return f"{os.path.realpath(path)}/".startswith(f"{os.path.realpath(fs.root)}/")


def _is_signed(fd: int, session: bytes, key: signing.Key) -> bool:
    frame = next(frames.backwards(fd), None)
    return (frame is not None and frame.start == 0 and frame.end == len(session)
            and key.fits(signing.SESSION, "", frame.text, session[:frame.payload_length]))

"""`load` and `dump`, and files that are whole or not there.

A file is the pickle of a tuple, as the original `Tasker` writes it.  What `Tasker.map` writes has a frame behind that
(`runforrest.folder.frames`), which says of what it is the result; pickle stops before it.
"""

from __future__ import annotations

import os
import pickle
import time
import zlib
from typing import IO, Any

from runforrest.errors import FolderError, Unloadable
from runforrest.folder import frames
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps

PROTOCOL = 5
READABLE = 0o666                   # less what the umask takes away, as any program makes files
STEP = 1 << 20                     # bytes read at once
LATE_SECONDS, LATE_STEP = 60.0, 0.1     # that a file server may hide another host's file
TORN = (EOFError, pickle.UnpicklingError)
_MISSING = object()


def dump(filename: str | os.PathLike[str], *data: Any) -> None:
    """Pickle these values into a file, for `load`.  Whoever looks sees the old file or the new one, never a part."""
    path = os.path.realpath(os.fsdecode(filename))
    folder, name = os.path.split(path)
    write(FileOps(folder), name, f".{name[:200]}.{new_tag(8)}", data, mode=READABLE)


def load(filename: str | os.PathLike[str], default: Any = None) -> Any:
    """What `dump` has written: the value, or a tuple if there were several; ``default`` if there is no such file.

    It is pickle that reads, so the file may run any code: load only what you trust.
    Raises Unloadable if only a part of it is there.
    """
    try:
        with open(filename, "rb") as file:
            found = pickle.load(file)
    except FileNotFoundError:
        return default
    except TORN as error:
        raise Unloadable(f"{os.fsdecode(filename)} is torn, or no pickle ({error}): remove it, and make it anew") \
            from error
    return unpacked(found)


def unpacked(found: Any) -> Any:
    """What was given to `dump`; a pickle that another program has made is taken as it is."""
    return found[0] if isinstance(found, (tuple, list)) and len(found) < 2 else found


def load_there(filename: str) -> Any:
    """`load` a file that another host has written just now: a file server may show it late.  Raises FolderError."""
    folder, name = os.path.split(os.path.abspath(filename))
    fs, until = FileOps(folder), time.monotonic() + LATE_SECONDS
    while True:
        found = load(filename, _MISSING)
        if found is not _MISSING:
            return found
        if time.monotonic() > until:
            raise FolderError(f"{filename} was written by another rank, and is not to be seen here: do all ranks use "
                              f"the same folder?", directory=folder)
        time.sleep(LATE_STEP)
        fs.exists(name)                 # has the server asked


def about(filename: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What stands in a file of `Tasker.map` beside the result: of a job ``host``, ``rank``, ``started`` (UTC) and
    ``seconds``; None if there is no such file, or `map` has not written it whole.  Nothing is unpickled.
    """
    try:
        with open(filename, "rb") as file:
            return record_of(file.fileno()) or None
    except FileNotFoundError:
        return None


def write(fs: FileOps, name: str, temporary: str, data: tuple[Any, ...], record: dict[str, Any] | None = None,
          mode: int = 0) -> None:
    """Pickle into a temporary file, force it to disk, and give it its name.  Raises what pickle raises, and OSError.

    mode  0: for this user alone
    """
    try:
        if mode:
            fs.create(temporary, [], mode=mode)
        with os.fdopen(fs.open_output(temporary), "wb") as file:
            summed = _Summed(file)
            pickle.dump(data, summed, PROTOCOL)
            if record is not None:
                for chunk in frames.encode({**record, "bytes": summed.bytes, "crc": summed.crc}):
                    file.write(chunk)
            file.flush()
            fs.before("fsync", temporary)
            os.fsync(file.fileno())
        fs.rename(temporary, name)
    except BaseException:
        fs.unlink(temporary)
        raise


def record_of(fd: int, summed: bool = True) -> dict[str, Any] | None:
    """What `write` was told to say of the file; {} if what is before that is not as it was written, and None if there
    is nothing of the kind.

    summed  read all of it, to be sure
    """
    frame = next(frames.backwards(fd), None)
    if frame is None or frame.end != os.fstat(fd).st_size:
        return None
    if not summed:
        return frame.record
    crc = 0
    for at in range(0, frame.start, STEP):
        crc = zlib.crc32(frames.read_range(fd, at, min(frame.start - at, STEP)), crc)
    return frame.record if (frame.start, crc) == (frame.record.get("bytes"), frame.record.get("crc")) else {}


class _Summed:
    """A file that counts and sums up what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes, self.crc = 0, 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.crc, self.bytes = zlib.crc32(data, self.crc), self.bytes + size
        self._file.write(data)
        return size

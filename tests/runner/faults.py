"""What goes wrong with a folder, in the runner and all its children, while a file says so.

Put into ``RUNFORREST_FSIO_HOOK``.  The file that ``FAULT`` names holds an errno and the operations that
it hits ('hang' instead of a number for a file server that does not answer); ``rename:done/`` hits renames
from or to what begins so, in which ``*`` stands for anything.
"""

from __future__ import annotations

import errno
import os
import time
from fnmatch import fnmatchcase

VARIABLE = "RUNFORREST_TEST_FAULT"
WRITES = "create open append write rename mkdir rmdir unlink truncate fsync"


def hook(operation: str, args: tuple[object, ...]) -> None:
    code, hit = _fault()
    while code == "hang" and _is_hit(hit, operation, args):
        time.sleep(0.02)
        code, hit = _fault()
    if code not in ("", "hang") and _is_hit(hit, operation, args):
        raise OSError(int(code), os.strerror(int(code)), str(args[0]) if args else None)


def lost_reply(operation: str, args: tuple[object, ...]) -> None:
    """The first claim takes place, its reply is an error, and who asks whether it has gets none.

    ``FAULT`` names the list's folder.  In place of `hook`.
    """
    if operation == "exists" and _unanswered:
        _unanswered.clear()
        raise OSError(errno.EIO, "no answer", str(args[0]))
    if operation == "rename" and not _lost and str(args[0]).startswith("todo/") and str(args[1]).startswith("doing/"):
        os.rename(*(os.path.join(os.environ[VARIABLE], str(arg)) for arg in args))
        _lost.append(args)
        _unanswered.append(args)
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(args[0]))


_lost: list[object] = []
_unanswered: list[object] = []


def _is_hit(hit: list[str], operation: str, args: tuple[object, ...]) -> bool:
    return operation in hit or any(fnmatchcase(f"{operation}:{arg}", f"{each}*")
                                   for each in hit if ":" in each for arg in args)


def _fault() -> tuple[str, list[str]]:
    try:
        with open(os.environ[VARIABLE]) as file:
            code, *operations = file.read().split()
            return code, operations
    except (FileNotFoundError, ValueError):
        return "", []

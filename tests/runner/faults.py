"""What goes wrong with a folder, in the runner and all its children, while a file says so.

Put into ``RUNFORREST_FSIO_HOOK``.  The file that ``FAULT`` names holds an errno and the operations that
it hits ('*' for all, 'hang' instead of a number for a file server that does not answer).
"""

from __future__ import annotations

import os
import time

VARIABLE = "RUNFORREST_TEST_FAULT"
WRITES = "create open append write rename mkdir rmdir unlink truncate fsync"


def hook(operation: str, args: tuple[object, ...]) -> None:
    code, hit = _fault()
    while code == "hang" and operation in hit:
        time.sleep(0.02)
        code, hit = _fault()
    if code not in ("", "hang") and operation in hit:
        raise OSError(int(code), os.strerror(int(code)), str(args[0]) if args else None)


def _fault() -> tuple[str, list[str]]:
    try:
        with open(os.environ[VARIABLE]) as file:
            code, *operations = file.read().split()
            return code, operations
    except (FileNotFoundError, ValueError):
        return "", []

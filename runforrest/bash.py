"""How bash is given a command line.  Loaded in every child."""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SHELL = b"/bin/bash"
LONGEST_ARGUMENT = 100_000          # bytes; Linux takes no argument above 128 KiB


@contextmanager
def program(line: str) -> Iterator[tuple[list[bytes], tuple[int, ...]]]:
    """What to execute for a command line of any length, and the descriptors that it must inherit.

    A line that is too long for an argument is in a file without a name, which is gone with its last descriptor.
    """
    text = line.encode("utf-8", "surrogateescape")
    if len(text) <= LONGEST_ARGUMENT:
        yield [SHELL, b"-c", text], ()
        return
    with os.fdopen(os.memfd_create("command", 0), "wb") as file:
        file.write(text)
        file.flush()
        yield [SHELL, b"/proc/self/fd/%d" % file.fileno()], (file.fileno(),)

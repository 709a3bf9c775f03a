"""A command instead of a call: the child is bash, and no Python.  Loaded in every child."""

from __future__ import annotations

import os
import pickle
import signal
from contextlib import suppress

from runforrest import bash
from runforrest.errors import CommandFailed
from runforrest.model import outcomes
from runforrest.process.child import CLOSE_UPTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from runforrest.process.output import Output

SNIPPET = 40                        # bytes at either end of an output that the record quotes
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)     # Python ignores them; programs expect that they end them


def spawn(line: str, stderr: int, blocked: Iterable[int]) -> int:
    """Have bash run this command line, in a session of its own; returns its pid.  Raises OSError if that can't be.

    Without a copy of this process, which takes longer than all the rest.

    stderr   the descriptor to which it writes its errors; all else is inherited, as is every inheritable descriptor
    blocked  signals that it does not get
    """
    with bash.program(line) as (arguments, _):      # which are inherited
        return os.posix_spawn(arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, stderr, 2)],
                              setsid=True, setsigmask=blocked, setsigdef=RESTORED)


def keep_from_commands() -> None:
    """No descriptor that this process has now is inherited by a command, but for its input and its outputs."""
    try:
        fds = [int(fd) for fd in os.listdir("/proc/self/fd")]
    except OSError:                     # not everywhere
        fds = list(range(CLOSE_UPTO))
    for fd in fds:
        with suppress(OSError):         # there is none with this number
            os.set_inheritable(fd, fd < 3)


def snippet(output: Output) -> str:
    """The beginning and the end of an output, as disBatch cuts it for its status files."""
    return shortened(output.ends(SNIPPET))


def shortened(ends: bytes) -> str:
    """The same of the first and the last ``SNIPPET`` bytes, or of all, if there are no more."""
    if len(ends) > SNIPPET:
        ends = ends[:SNIPPET] + b"..." + ends[SNIPPET:]
    return ends.decode(errors="replace")


def ending(line: str, code: int) -> tuple[dict[str, Any], dict[str, str], bytes]:
    """What a command has come to that ended by itself: (of the record, of its words, pickled value or exception).

    ``code``: bash's exit code, or minus the signal's number.
    """
    if code == 0:
        return {"outcome": outcomes.RETURNED, "payload": "value"}, {}, pickle.dumps(0)
    error = CommandFailed.of(line, code)
    return ({"outcome": outcomes.RAISED, "payload": "error", "error": "CommandFailed"}, {"message": str(error)},
            pickle.dumps(error))

"""A command instead of a call: the child becomes bash.  Loaded in every child."""

from __future__ import annotations

import os
import pickle
import signal

from runforrest import bash
from runforrest.errors import CommandFailed
from runforrest.model import outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from runforrest.process.output import Output

SNIPPET = 40                        # bytes at either end of an output that the record quotes
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)     # Python ignores them; programs expect that they end them


def execute(line: str) -> NoReturn:
    """Become bash with this command line.  Raises OSError if there is no bash."""
    for signum in RESTORED:
        signal.signal(signum, signal.SIG_DFL)
    with bash.program(line) as (arguments, _):      # which are inherited
        os.execv(arguments[0], arguments)


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

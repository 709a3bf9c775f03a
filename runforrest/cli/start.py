"""Where `python -m runforrest` begins: debugging one task, as RunForrest did it, or the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from runforrest.cli import path
from runforrest.cli.group import main

_OF_DEBUG = ("-r", "-p", "-s", "--do", "--sess")


def start(arguments: Sequence[str] | None = None) -> None:
    """Does not return: ends in SystemExit, or in the task's own exception with ``-r``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if is_debug(given):
        sys.path[:] = path.given
        from runforrest.cli.debug import debug
        sys.exit(debug(given))
    main(given)


def is_debug(arguments: Sequence[str]) -> bool:
    """Whether this is ``IN OUT [-r] [-p] [-s FILE]`` and not a command."""
    if not arguments or arguments[0] in main.commands:
        return False
    first = arguments[0]
    return first.startswith(_OF_DEBUG) or first.endswith(".pkl") or os.sep in first or os.path.isfile(first)

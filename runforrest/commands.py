"""Command lines as tasks: what `TaskList.schedule` takes instead of a deferred call."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from runforrest import bash
from runforrest.errors import CommandFailed


@dataclass(frozen=True)
class Command:
    """A command line, to be run by bash.

    As a task it returns 0, or fails with CommandFailed.  What it prints is kept as a call's output is; its standard
    input is empty.
    """

    line: str


def run(line: str) -> int:
    """Run a command line here and now; returns 0.  Raises CommandFailed if it ends in any other way.

    This is the call that a command's task holds.  A runner has no need of it, as it starts the command without Python;
    who evaluates the task himself has.
    """
    with bash.program(line) as (arguments, fds):
        code = subprocess.run(arguments, stdin=subprocess.DEVNULL, check=False, pass_fds=fds).returncode
    if code:
        raise CommandFailed.of(line, code)
    return 0

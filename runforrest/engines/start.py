"""What a runner is started with, and how it ended."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

#: exit codes of a runner that left in order: done, some failed, before the end, after SIGINT, after SIGTERM
ORDERLY = frozenset((0, 1, 4, 130, 143))
HELLO, FAREWELL = "runforrest-runner:", "runforrest-ended:"
NOT_THERE, NOT_STARTED = 2, 127    # exit codes: the host lacks a folder; a program
RANK = "DISBATCH_ENGINE_RANK"
EARLY = "--leave-when-dry"          # while others are at work still


@dataclass(frozen=True)
class Start:
    """One runner that is to be started.

    directory    the task list
    slots        tasks that it runs side by side
    rank         its number among the runners of a batch
    log          the file to whose end it writes what it has to say; its folder must be there, on its host
    node         the host, as ssh or Slurm know it
    arguments    further options of ``runforrest run``
    environment  variables that are added to those that it has anyway
    python       the interpreter, on its host
    cwd          its working folder, on its host
    """

    directory: str
    slots: int
    rank: int
    log: str
    node: str = ""
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    cwd: str = field(default_factory=os.getcwd)

    def command(self) -> list[str]:
        return [self.python, "-m", "runforrest", "run", os.path.abspath(self.directory), "-n", str(self.slots),
                *self.arguments]

    def variables(self) -> dict[str, str]:
        return {RANK: str(self.rank), **self.environment}

    def leaving_early(self) -> Start:
        """The same, which leaves when nothing is left to be begun."""
        return replace(self, arguments=[*self.arguments, EARLY])

    def staying(self) -> Start:
        """The same, which leaves when the list is done."""
        return replace(self, arguments=[each for each in self.arguments if each != EARLY])

    def script(self, variables: Mapping[str, str]) -> str:
        """Lines for a shell on the runner's host.  Another shell says which process it is, and becomes the runner; the
        first one says how that has ended, since neither ssh nor srun tells whether it is the runner that has.

        The runner reads nothing from whoever started it and writes nothing to him, so it can do without him.
        A Python that can't import this package ends with 1 as well, like a runner of which a task has failed.
        """
        directory, python = shlex.quote(os.path.abspath(self.directory)), shlex.quote(self.python)
        inner = "\n".join([
            f'echo "{HELLO} $(uname -n) $$"',
            f"exec {shlex.join(self.command())} >>{shlex.quote(os.path.abspath(self.log))} 2>&1"])
        return "\n".join([
            f"cd {shlex.quote(self.cwd)} || exit {NOT_THERE}",
            f"[ -d {directory} ] || {{ echo there is no folder {directory} here >&2; exit {NOT_THERE}; }}",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            f"/bin/sh -c {shlex.quote(inner)} </dev/null", "code=$?",
            f"[ $code != 1 ] || {python} -c 'import runforrest.cli' </dev/null || code={NOT_STARTED}",
            f'echo "{FAREWELL} $code"', ""])


@dataclass(frozen=True)
class Ended:
    """A runner that has ended.

    code   its exit code (see `runforrest.cli.exits`), or minus the signal that killed it; 255 if ssh or srun has
           failed, 127 if there is no such program, or no runforrest for it, and 2 if there is no such folder
    said   the end of its log, and what ssh or srun had to say
    told   it was asked to leave
    lost   the connection to it has ended, and it is not known whether the runner has
    """

    start: Start
    code: int
    said: str = ""
    told: bool = False
    lost: bool = False

    @property
    def failed(self) -> bool:
        """Not in order, and nobody had asked it to leave."""
        return self.code not in ORDERLY and not self.told

    def __str__(self) -> str:
        where = f"runner {self.start.rank}" + (f" on {self.start.node}" if self.start.node else "")
        if self.lost:
            how = "can't be reached any more, and may be at work still"
        elif self.code < 0:
            how = f"was killed by signal {-self.code}"
        else:
            how = f"ended with exit code {self.code}"
        return f"{where} {how}{self._last_words()}"

    def _last_words(self) -> str:
        return f"; the last that was said:\n{self.said}" if self.failed and self.said else ""

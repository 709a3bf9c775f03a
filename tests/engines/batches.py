"""A batch whose tasks leave traces, and run until they are told that it is enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runforrest.batch.statusfile import StatusLine
from tests.batch.support import records
from tests.cli.programs import environment
from tests.engines.support import SECONDS, Driver
from tests.helpers import files, wait_for

#: leaves `log/TASK.ATTEMPT.HOST`; ends when it is enough for all, or on its host
TRACE = ": > log/$DISBATCH_TASKID.$RUNFORREST_ATTEMPT.$(uname -n)"
UNTIL_ENOUGH = f"{TRACE}; until [ -e log/enough ] || [ -e log/enough.$(uname -n) ]; do sleep 0.1; done; uname -n"
#: leaves a trace; the first on each host kills its runner
DEADLY = (f"{TRACE}; if mkdir killed.$(uname -n) 2>/dev/null; then kill -9 $(echo $RUNFORREST_RUNNER | cut -d. -f2); "
          "sleep 60; fi; uname -n")
#: what has ended and was recorded before the rest begins
BEFORE = ["uname -n", "uname -n", "uname -n", "#DISBATCH BARRIER"]
LONG = 90                          # seconds: whoever was lost must be missed first
BRIEFLY = [sys.executable, "-m", "tests.engines.briefly"]


class Batch(Driver):
    """`runforrest batch` on a task file, in a folder, with PREFIX x.

    lines  of its task file, which must all be tasks, but for ``head``
    """

    def __init__(self, folder: Path, lines: list[str], *options: str, head: str = "", name: str = "x") -> None:
        self.folder, self.name, self.number = folder, name, len(lines)
        self.prefix, self.log = folder / name, folder / "log"
        self.log.mkdir(exist_ok=True)
        self.file = folder / f"{name}.tasks"
        self.file.write_text(head + "".join(f"{line}\n" for line in lines))
        self.command = [*BRIEFLY, "batch", "-p", str(self.prefix), *options, str(self.file)]

    @property
    def directory(self) -> Path:
        return Path(f"{self.prefix}_tasklist")

    def said(self) -> str:
        return super().said() if Path(f"{self.prefix}.out").exists() else ""

    def again(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Give the same command again, with more options."""
        return subprocess.run([*self.command, *options], cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LONG)

    def begun(self, host: str) -> int:
        return len(list(self.log.glob(f"*.*.{host}")))

    def await_begun(self, *hosts: str) -> None:
        for host in hosts:
            wait_for(lambda host=host: self.begun(host), SECONDS, f"{host} begins a task: {self.said()}")

    def attempts(self) -> int:
        """Times that a task was begun."""
        return len(list(self.log.glob("[0-9]*")))

    def enough(self, host: str = "") -> None:
        (self.log / ".".join(filter(None, ["enough", host]))).touch()

    def at_work(self) -> set[str]:
        """The hosts whose runners are members of the list."""
        return {path.name.split(".")[0] for path in files(self.directory, "doing/*")}

    def feeding(self) -> str:
        """The host that feeds, or ''."""
        return next((path.parent.name.split(".")[0] for path in files(self.directory, "doing/*/*-feeder.*")), "")

    def idle(self, first: str, *others: str) -> tuple[str, list[str]]:
        """A host whose runner will leave when its task has ended, also if it feeds, and all other hosts."""
        wait_for(lambda: self.feeding() and (self.directory / "batch.fed").exists(), SECONDS, "all lines are read")
        idle = self.feeding() if self.feeding() in others else others[-1]
        return idle, [host for host in (first, *others) if host != idle]

    def complete(self) -> dict[int, StatusLine]:
        """Its tasks' records, by number; fails unless all have one, once, and have succeeded."""
        found = [record for record in records(self.folder, self.name) if "P" not in record.flags]
        assert sorted(record.task for record in found) == list(range(self.number)), self.said()
        assert all(record.code == 0 for record in found), found
        return {record.task: record for record in found}

    def hosts(self, first: int = 0) -> set[str]:
        """The hosts on which tasks from this one on have ended, as the status file tells; they told the same."""
        found = [record for record in self.complete().values() if record.task >= first]
        assert all(record.out == f"{record.node}\n" for record in found), found
        return {record.node for record in found}

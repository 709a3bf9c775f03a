"""Hosts whose runners have ended are given back: a command is told which."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

COMMAND_SECONDS = 60.0


class Retirement:
    """Calls a command of the shell with the hosts that have retired.

    command      its environment has NODES (those of this call) and RETCODES (exit codes of their runners), ACTIVE
                 (those whose runners are at work), RETIRED (all others) and, once its own host has retired,
                 DRIVER_NODE; the lists have commas.  '' for no command at all
    nodes        all hosts
    driver       the host of this process, if it is one of them and has to be kept
    quiet        seconds without a further one, after which there is a call for all that have retired
    at_end       `close` calls it for those that are left
    warn         called with what went wrong
    """

    def __init__(self, command: str, nodes: Sequence[str], driver: str = "", quiet: float = 0.0, at_end: bool = True,
                 warn: Callable[[str], None] | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self.command, self.driver, self.quiet, self.at_end = command, driver, quiet, at_end
        self.environment, self.warn = environment, warn or (lambda text: None)
        self._active, self._retired = list(dict.fromkeys(nodes)), list[str]()
        self._next: list[tuple[str, int]] = []
        self._due = 0.0
        self._given_back: set[str] = set()

    def add(self, node: str, code: int) -> None:
        """The runner of a host has ended."""
        if node in self._active:
            self._active.remove(node)
            self._retired.append(node)
        self._next.append((node, code))
        self._due = time.monotonic() + self.quiet

    def take_back(self, node: str) -> bool:
        """The host is needed again; False if it was given back."""
        if node in self._given_back:
            return False
        self._next = [each for each in self._next if each[0] != node]
        if node in self._retired:
            self._retired.remove(node)
            self._active.append(node)
        return True

    def poll(self) -> None:
        """Call the command if it is time; returns when it has ended, or after a minute."""
        if self._next and time.monotonic() >= self._due:
            self._call()

    def close(self) -> None:
        if self._next and self.at_end:
            self._call()

    def variables(self) -> dict[str, str]:
        """What the command finds in its environment."""
        found = {"NODES": ",".join(node for node, _ in self._next),
                 "RETCODES": ",".join(str(code) for _, code in self._next),
                 "ACTIVE": ",".join(self._active), "RETIRED": ",".join(self._retired)}
        return {**found, "DRIVER_NODE": self.driver} if self.driver in self._retired else found

    def _call(self) -> None:
        variables = self.variables()
        self._next.clear()
        if not self.command:
            return
        self._given_back |= set(variables["NODES"].split(",")) - {self.driver}
        with tempfile.TemporaryFile() as out:           # a file: what it leaves behind must not hold us up
            try:
                code = subprocess.run(["/bin/sh", "-c", self.command], env={**self.environment, **variables},
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                      timeout=COMMAND_SECONDS).returncode
            except (OSError, subprocess.SubprocessError) as error:
                self.warn(f"giving back {variables['NODES']}: {error}")
                return
            if code:
                out.seek(0)
                said = out.read().decode("utf-8", "replace").strip()
                self.warn(f"giving back {variables['NODES']}: exit code {code} of {self.command}: {said[-1000:]}")

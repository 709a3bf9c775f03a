"""What the tests of the engines share."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runforrest import TaskList, defer
from tests.cli.programs import ended, environment
from tests.helpers import wait_for
from tests.hosts import work
from tests.hosts.machines import Part
from tests.runner.support import with_short_lease

SECONDS = 60
BEAT, LEASE = 0.5, 12              # 6 s: that a process must wait for its turn is no death


class Ticking:
    """A list of tasks, each of which leaves a trace until it has run for so long, or they are told that it is enough.

    directory  the list; ``log`` is where the traces come
    """

    def __init__(self, directory: Path, number: int, seconds: float = 0.0) -> None:
        self.directory, self.number, self.log = directory, number, directory.parent / "log"
        self.log.mkdir()
        self.tasks = TaskList(directory, durability="none")
        with_short_lease(directory, BEAT, LEASE)
        for each in range(number):
            self.tasks.schedule(defer(work.tick, str(self.log), each, seconds))

    def begun(self, host: str) -> int:
        return sum(name.name.split(".")[2] == host for name in self.log.glob("*.begun"))

    def await_begun(self, host: str, number: int = 1) -> None:
        wait_for(lambda: self.begun(host) >= number, SECONDS, f"{host} begins {number} tasks")

    def enough(self) -> None:
        (self.log / "enough").touch()

    def finished(self) -> dict[int, str]:
        """The host that has run each task; fails unless all are done, once."""
        found = {}
        for task in self.tasks.done_tasks():
            number, me = task.returnvalue
            assert number not in found
            found[number] = me.split(".")[2]
        assert sorted(found) == list(range(self.number))
        return found

    def counts(self, outcome: str) -> int:
        """Attempts that ended so."""
        return sum(attempt.outcome == outcome for task in self.tasks.done_tasks() for attempt in task.attempts)


class Driver:
    """A program that starts an engine, as `runforrest batch` does, and writes down which runners have ended."""

    def __init__(self, method: str, directory: Path, prefix: Path, **options: Any) -> None:
        self.prefix = prefix
        given = json.dumps({"method": method, "directory": str(directory), "prefix": str(prefix), **options})
        self.command = [sys.executable, "-m", "tests.engines.driver", given]

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """At work on this host."""
        with open(f"{self.prefix}.out", "wb") as out:
            program = subprocess.Popen(self.command, env=environment(), stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        with ended(program):
            yield program

    def said(self) -> str:
        return Path(f"{self.prefix}.out").read_text()

    def ends(self) -> dict[str, dict[str, Any]]:
        """By node: how its runner has ended."""
        found = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return {end["node"]: end for end in found}


class Cluster:
    """A Slurm with nodes node1, node2 …"""

    def __init__(self, part: Part, nodes: int) -> None:
        self.part, self.nodes = part, [f"node{k}" for k in range(1, nodes + 1)]
        self._off: set[str] = set()

    def submit(self, driver: Driver, *options: str, before: str = "") -> str:
        """A job that runs the driver; its id."""
        script = f"#!/bin/sh\nexec {before} {shlex.join(driver.command)}\n"
        asked = subprocess.run(["sbatch", "--parsable", f"--output={driver.prefix}.out", *options], input=script,
                               env=environment(), text=True, capture_output=True)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def run(self, *command: str) -> str:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=SECONDS)
        assert asked.returncode == 0, f"{command}: {asked.stderr}"
        return asked.stdout.strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, …"""
        return self.fields(job)["JobState"]

    def fields(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        pairs = (word.partition("=") for word in self.run("scontrol", "show", "job", "-o", job).split())
        return {name: value for name, _, value in pairs}

    def await_state(self, job: str, *states: str) -> None:
        # Slurm looks at limits of time every 30 s
        wait_for(lambda: self.state(job) in states, 2 * SECONDS, f"job {job} is {' or '.join(states)}")

    def start_again(self, job: str) -> None:
        """Without the two minutes that Slurm lets a job wait that it has put back into its queue.

        In the second in which it has ended, its node refuses it.
        """
        self.await_state(job, "PENDING")
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def power_off(self, node: str) -> None:
        self._off.add(node)
        self.part("crash", node)

    def clean(self) -> None:
        for node in sorted(self._off):
            self.part("boot", node)
        self._off.clear()
        subprocess.run(["scancel", "--user=root"], check=False, stdin=subprocess.DEVNULL)
        wait_for(lambda: not self.run("squeue", "-h"), SECONDS, "no job is left")
        subprocess.run(["scontrol", "update", f"NodeName={','.join(self.nodes)}", "State=RESUME"], check=False,
                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.run("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * len(self.nodes), SECONDS,
                 "all nodes are idle")


class Hosts:
    """Hosts host1, host2 … behind ssh."""

    def __init__(self, part: Part, number: int) -> None:
        self.part, self.names = part, [f"host{k}" for k in range(1, number + 1)]
        self.program = f"ssh -F {part.folder / 'ssh_config'}"
        self._off: set[str] = set()
        self._cut: set[str] = set()

    def run(self, host: str, line: str) -> str:
        return subprocess.run([*self.program.split(), host, line], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=SECONDS).stdout

    def cut(self, host: str) -> None:
        self._cut.add(host)
        self.part("cut", host)

    def heal(self, host: str) -> None:
        self.part("heal", host)
        self._cut.discard(host)

    def power_off(self, host: str) -> None:
        self._off.add(host)
        self.part("crash", host)

    def clean(self) -> None:
        for host in sorted(self._cut):
            self.heal(host)
        for host in sorted(self._off):
            self.part("boot", host)
        self._off.clear()

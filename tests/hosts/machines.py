"""The machines that runners work on: namespaces of this one, or user-mode-linux hosts."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import psutil

from tests.helpers import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = Path(__file__).resolve().parent / "parts"
RUNFORREST = [sys.executable, "-m", "runforrest"]
PART_SECONDS = 120
_numbers = count(1)


class Missing(Exception):
    """Why a part can't be had on this machine."""


class Part:
    """Something that a script of ``parts/`` starts in a folder of its own, and stops."""

    def __init__(self, script: str, folder: Path, *arguments: object, **environment: str) -> None:
        self.script, self.folder, self.environment = script, folder, environment
        self.title = " ".join([script.removesuffix(".sh"), *map(str, arguments[1:])])
        try:
            self("start", *arguments)
        except BaseException:
            self.stop()
            raise

    def __call__(self, verb: str, *arguments: object) -> str:
        """What it printed.  Raises Missing with what it said if it failed."""
        out = self.folder.with_suffix(".out")       # a file: a daemon that inherits a pipe would keep it open
        command = ["bash", str(PARTS / self.script), verb, str(self.folder), *map(str, arguments)]
        with out.open("wb") as file:
            ended = subprocess.run(command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
                                   stdout=file, stderr=subprocess.STDOUT, timeout=PART_SECONDS)
        text = out.read_text("utf-8", "replace")
        if ended.returncode != 0:
            raise Missing(f"{self.script} {verb}: exit code {ended.returncode}: {text[-2000:]}")
        return text

    def stop(self) -> None:
        self("stop")


class Job:
    """A command at work on a machine; its output and exit code come into ``folder``."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder = folder / f"{label}-{next(_numbers)}"
        self.folder.mkdir(parents=True)

    def wrapped(self, command: list[str]) -> str:
        """A line of shell that runs the command and keeps what comes of it."""
        return (f"cd {shlex.quote(str(self.folder))}; {shlex.join(command)} >out 2>err </dev/null & "
                f"echo $! >pid; wait $!; echo $? >code.new; mv code.new code")

    def pid(self) -> int:
        """On its machine."""
        return int((self.folder / "pid").read_text())

    def code(self) -> int | None:
        """Its exit code; None while it is at work."""
        file = self.folder / "code"
        return int(file.read_text()) if file.exists() else None

    def wait(self, seconds: float = 90) -> int:
        wait_for(lambda: self.code() is not None, seconds, f"{self.folder.name} ends")
        code = self.code()
        assert code is not None
        return code

    def output(self) -> str:
        """What it has printed, when it has ended well."""
        assert self.wait() == 0, self.said()
        return (self.folder / "out").read_text("utf-8", "replace")

    def said(self) -> str:
        return (self.folder / "err").read_text("utf-8", "replace")


class Machine:
    """A host: runs commands and runners.  ``scratch`` is a folder that it and this process see, without a network."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.name, self.scratch = name, scratch
        self.jobs: list[Job] = []

    def start(self, command: list[str]) -> Job:
        """Have the command at work there."""
        raise NotImplementedError

    def clean(self) -> None:
        """End what a test that failed has left; a runner's tasks end with it."""
        raise NotImplementedError

    def runner(self, directory: Path, slots: int, *arguments: str) -> Job:
        """`runforrest run` there."""
        return self.start([*RUNFORREST, "run", str(directory), "-n", str(slots), "--quiet", *arguments])

    def python(self, program: str, *arguments: str) -> Job:
        """A program at work there."""
        return self.start([sys.executable, "-c", program, *arguments])

    def run(self, *command: str) -> str:
        """What a command prints."""
        return self.start(list(command)).output()


class Namespace(Machine):
    """This machine with another host name and other pids, in which it can't see its own processes, as a container.

    ``mount`` is shown at ``shared``: so the folder has one path on all of them.  Each command gets namespaces of
    its own, and in them the same pids as in every other.
    """

    def __init__(self, name: str, scratch: Path, mount: Path, shared: Path) -> None:
        super().__init__(name, scratch)
        self.mount, self.shared = mount, shared
        self._inits: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str]) -> Job:
        job = Job(self.scratch, self.name)
        line = (f"hostname {self.name}; mount --bind {shlex.quote(str(self.mount))} {shlex.quote(str(self.shared))}; "
                f"{job.wrapped(command)}")
        self._inits.append(subprocess.Popen(
            ["unshare", "--pid", "--uts", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", line],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL))
        self.jobs.append(job)
        return job

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def processes(self) -> list[psutil.Process]:
        return [each for init in self._inits if init.poll() is None
                for each in psutil.Process(init.pid).children(recursive=True)]

    def power_off(self) -> None:
        """Kill everything at once."""
        for init in self._inits:
            init.kill()
            init.wait()
        self._inits.clear()

    clean = power_off

    def _send(self, signum: signal.Signals) -> None:
        for _ in range(2):                  # one may have forked while the others were told
            for each in self.processes():
                try:
                    each.send_signal(signum)
                except psutil.NoSuchProcess:
                    pass


class Host(Machine):
    """A host with a kernel of its own."""

    def __init__(self, part: Part, name: str) -> None:
        super().__init__(name, part.folder / "jobs")
        self.part, self._up = part, True

    def start(self, command: list[str]) -> Job:
        job = Job(self.scratch, self.name)
        environment = ["env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1"]
        self.ssh(f"setsid sh -c {shlex.quote(job.wrapped([*environment, *command]))} >/dev/null 2>&1 </dev/null &")
        self.jobs.append(job)
        return job

    def ssh(self, line: str) -> str:
        """What a line of shell prints."""
        return self.part("run", self.name, line)

    def run(self, *command: str) -> str:
        return self.ssh(shlex.join(command))

    def freeze(self) -> None:
        self.part("freeze", self.name)

    def thaw(self) -> None:
        self.part("thaw", self.name)

    def cut(self) -> None:
        """Unplug its network cable."""
        self.part("cut", self.name)

    def heal(self) -> None:
        self.part("heal", self.name)

    def power_off(self) -> None:
        self.part("crash", self.name)
        self._up = False
        self.jobs.clear()

    def boot(self) -> None:
        self.part("boot", self.name)
        self._up = True

    def clean(self) -> None:
        self.thaw()
        self.heal()
        if not self._up:
            self.boot()
        left = [str(job.pid()) for job in self.jobs if job.code() is None]
        self.jobs.clear()
        if left:
            self.ssh(f"kill -KILL {' '.join(left)}; true")

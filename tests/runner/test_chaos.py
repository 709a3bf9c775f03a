"""Runners, fork servers, guards and children, killed and stopped at random for two minutes.

``RUNFORREST_CHAOS_SEED`` repeats what was drawn, as far as the system's own timing lets it;
``RUNFORREST_CHAOS_SECONDS`` sets how long it goes on.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runforrest import TaskList, defer
from runforrest.cli import exits
from runforrest.folder import layout
from runforrest.model.names import Name
from runforrest.process import system
from tests.folder.support import places
from tests.helpers import has_ended, wait_for

Tried = Callable[[str, int], None]

SEED = int(os.environ.get("RUNFORREST_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
SECONDS = float(os.environ.get("RUNFORREST_CHAOS_SECONDS", "120"))
RUNNERS, TASKS = 8, 5000
PAUSE = 0.35                    # seconds between two accidents, on average
LONGEST_STOP = 25.0             # seconds that something stays frozen: longer than a lease
PLURALS = {"runner": "runners", "fork server": "fork servers", "guard": "guards", "child": "children"}
ROOT = Path(__file__).resolve().parent.parent.parent


def work(log: str, number: int) -> int:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    if not os.path.exists(f"{log}.hurry"):
        time.sleep(0.15 + number % 7 * 0.05)
    return number * number


class Chaos:
    """The runners, and what happens to them."""

    def __init__(self, root: Path, tried: Tried) -> None:
        self.root, self.random, self.tried = root, random.Random(SEED), tried
        self.runners: list[subprocess.Popen[bytes]] = []
        self.started: set[psutil.Process] = set()       # everything that was ever seen below a runner
        self.frozen: dict[psutil.Process, float] = {}   # until when
        self.events: Counter[str] = Counter()

    def start(self) -> None:
        isolation = self.random.choice(["process", "reuse"])
        command = [sys.executable, "-m", "runforrest", "run", "--quiet", "-n", str(self.random.choice([1, 1, 2])),
                   "--isolation", isolation, str(self.root)]
        runner = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
        self.runners.append(runner)
        self.started.add(psutil.Process(runner.pid))
        self.events["runners started"] += 1

    def replace_the_dead(self) -> None:
        for runner in list(self.runners):
            if runner.poll() is not None:
                self.runners.remove(runner)
                if runner.returncode == exits.TROUBLE:
                    self.events["runners that found themselves declared lost"] += 1
        while len(self.runners) < RUNNERS:
            self.start()

    def victims(self) -> dict[str, list[psutil.Process]]:
        """All that runs now, by what it is."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in PLURALS}
        for runner in self.runners:
            level = [psutil.Process(runner.pid)] if runner.poll() is None else []
            for kind in found:
                found[kind] += level
                level = [child for process in level for child in children(process)]
        self.started.update(*found.values())
        return found

    def accident(self) -> None:
        kind = self.random.choice(["runner", "fork server", "guard", "guard", "child", "child"])
        victims = self.victims()[kind]
        if not victims:
            return
        victim = self.random.choice(victims)
        try:
            if self.random.random() < 0.6:
                victim.kill()
                self.events[f"{PLURALS[kind]} killed"] += 1
            else:
                victim.suspend()
                self.frozen[victim] = time.monotonic() + self.random.uniform(0.1, LONGEST_STOP)
                self.events[f"{PLURALS[kind]} frozen"] += 1
        except psutil.NoSuchProcess:
            pass

    def thaw(self, everything: bool = False) -> None:
        for process, until in list(self.frozen.items()):
            if everything or time.monotonic() > until:
                del self.frozen[process]
                try:
                    process.resume()
                except psutil.NoSuchProcess:
                    pass

    def rage(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.replace_the_dead()
            self.accident()
            self.thaw()
            time.sleep(self.random.expovariate(1 / PAUSE))

    def end(self) -> None:
        """Kill the runners that are left, while some of what they started is frozen: all of it must go."""
        self.victims()
        for runner in self.runners:
            runner.kill()
        for runner in self.runners:
            runner.wait()

    def alive(self) -> list[psutil.Process]:
        return [process for process in self.started if lives(process)]


def lives(process: psutil.Process) -> bool:
    return not has_ended(process)


def children(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for pid in system.children(process.pid):        # psutil's reads all processes of the machine, each time
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.slow
@pytest.mark.timeout(600 + 2 * SECONDS)
def test_chaos(tasklist_dir: Path, tmp_path: Path, tried: Tried) -> None:
    print(f"RUNFORREST_CHAOS_SEED={SEED}")
    tasks, log = TaskList(tasklist_dir, durability="none"), tmp_path / "log"
    log.touch()
    for number in range(TASKS):
        tasks.schedule(defer(work, str(log), number), name=f"n{number}", crash_limit=1000, backoff=0.01)
    chaos = Chaos(tasklist_dir, tried)
    try:
        chaos.rage(SECONDS)
    finally:
        chaos.end()
        chaos.thaw(everything=True)
        wait_for(lambda: not chaos.alive(), 60, "everything ends with its runner")
    assert all(len(where) == 1 for where in places(tasklist_dir).values())
    before = {state: len(os.listdir(tasklist_dir / state)) for state in ("todo", "done", "fail")}
    Path(f"{log}.hurry").touch()
    for _ in tasks.run(4, isolation="reuse"):
        pass
    check(tasks, tasklist_dir, log, chaos)
    print(f"before the last runner: {before}")


def check(tasks: TaskList, root: Path, log: Path, chaos: Chaos) -> None:
    """Each task in done/, once, with its own result; nothing left of the runners."""
    done = [Path(name).name for name in os.listdir(root / layout.DONE) if name.endswith(".pkl")]
    assert Counter(name.split("-")[3].split(".")[0] for name in done) == Counter(f"n{n}" for n in range(TASKS))
    assert os.listdir(root / layout.TODO) == os.listdir(root / layout.FAIL) == []
    assert not (root / layout.DOING).exists() and not (root / layout.INTERNAL / "hb").exists()
    results = Counter(task.returnvalue for task in tasks.done_tasks())
    assert results == Counter(n * n for n in range(TASKS))
    lines = [json.loads(line) for line in (root / layout.HISTORY).read_text().splitlines()]
    published = {(line["task"], line["attempt"]) for line in lines if line["state"] == layout.DONE}
    assert max(Counter(task for task, _ in published).values()) == 1
    begun = Counter(log.read_text().split())
    assert len(begun) == TASKS and chaos.alive() == []
    assert all(chaos.events[what] > SECONDS / 30 for what in ("runners killed", "guards killed", "children killed"))
    chaos.tried("tasks that chaos could not lose nor double", TASKS)
    chaos.tried("attempts of them", begun.total())
    chaos.tried("take-overs of them", sum(name.lost for name in map(Name.parse, done) if name is not None))
    for what, number in sorted(chaos.events.items()):
        chaos.tried(f"chaos: {what}", number)


@pytest.mark.parametrize("kind", ["child", "guard", "fork server"])
def test_what_is_frozen_when_its_runner_dies(tasklist_dir: Path, tried: Tried, kind: str) -> None:
    """Nobody thaws it: it must end all the same, with everything else."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(time.sleep, 1000))
    chaos = Chaos(tasklist_dir, tried)
    chaos.start()
    try:
        wait_for(lambda: chaos.victims()["child"], 30)
        chaos.victims()[kind][0].suspend()
        chaos.end()
        wait_for(lambda: not chaos.alive(), 15)
    finally:
        chaos.end()
        for process in chaos.alive():
            process.kill()

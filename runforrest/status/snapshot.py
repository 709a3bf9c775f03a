"""A list at a glance: how many tasks are where, who is at work, how fast it goes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psutil

from runforrest.folder import identity, layout, requests
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import DEAD, ORPHAN, Membership, read_heartbeat
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from runforrest.status.tasks import Held, Place, held, iso, texts

ALIVE, STOPPED, LOST, UNKNOWN = "alive", "stopped", "lost", "unknown"
RATE_SECONDS = 300.0               # the rate is that of the last so many seconds
TAIL = 1 << 17                     # bytes read from the end of a journal


@dataclass(frozen=True)
class RunnerState:
    """A runner, as far as it can be told from here.

    state      alive; stopped: a person, or a debugger, holds it (SIGSTOP), and its lease runs out; lost: its
               process is gone, the next runner takes its tasks back; unknown: on another host, whose
               processes can't be seen from here
    beat       when its heartbeat was last raised, by the file server's clock: a hint for people
    tasks      what it holds
    rate       tasks per second, lately
    asked      what people ask of it: pause, stop, stop-now, or ''
    """

    name: str
    state: str
    host: str = ""
    pid: int | None = None
    beat: str = ""
    tasks: tuple[Held, ...] = ()
    rate: float | None = None
    asked: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Counts are of one moment each: a task that moves meanwhile may be counted twice, or not at all.

    waiting    tasks that wait for others; ``todo``: those that can be run now
    rate       tasks per second that the runners at work have lately finished, together; None if unknown
    time_left  seconds that the rest takes at this rate
    paused     who asked all runners to pause, and when; '' if nobody did
    """

    directory: str
    format: int
    durability: str
    todo: int
    doing: int
    done: int
    fail: int
    waiting: int = 0
    runners: tuple[RunnerState, ...] = ()
    rate: float | None = None
    time_left: float | None = None
    paused: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def snapshot(folder: TaskFolder) -> Snapshot:
    """Look at the list once.  Takes about a second for a million tasks."""
    fs = folder.fs
    runners = _runners(folder)
    counts = {state: sum(1 for _ in texts(fs, state)) for state in layout.EVERYWHERE}
    rates = [r.rate for r in runners if r.rate]
    rate = sum(rates) if rates else None
    rest = counts[layout.WAITING] + counts[layout.TODO] + counts[layout.DOING]
    return Snapshot(fs.root, folder.settings.format, folder.settings.durability, **counts, runners=runners,
                    rate=rate, time_left=rest / rate if rate else None,
                    paused=requests.who(fs, requests.PAUSE) if "" in requests.paused(fs) else "")


def _runners(folder: TaskFolder) -> tuple[RunnerState, ...]:
    membership = Membership(folder)        # only to look: it is never registered
    claims = folder.claims()
    return tuple(_runner(folder, runner, number, claims.get(runner, []))
                 for runner, number in sorted(membership.peers().items()))


def _runner(folder: TaskFolder, runner: str, number: str, names: list[Name]) -> RunnerState:
    fs = folder.fs
    tasks = tuple(held(fs, Place(layout.DOING, name, runner)) for name in names)
    if number == ORPHAN:                   # on its way in or out, or its heartbeat was removed
        return RunnerState(runner, UNKNOWN, tasks=tasks)
    found, raised = read_heartbeat(fs, runner, number)
    verdict = identity.verdict(found, folder.local) if found else UNKNOWN
    state = LOST if number == DEAD or verdict in ("dead", "ending") else verdict
    pid = found.get("pid") if isinstance(found.get("pid"), int) else None
    if state == ALIVE and pid is not None and _is_stopped(pid):
        state = STOPPED
    asked = requests.look(fs, runner)
    return RunnerState(runner, state, str(found.get("host") or ""), pid,
                       iso(raised) if raised else "", tasks, None if state == LOST else _rate(fs, runner),
                       asked.stop or asked.pause)


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def _rate(fs: FileOps, runner: str) -> float | None:
    """Tasks per second out of the runner's journal; None before the second task."""
    times = sorted(_ended_lately(fs, f"{layout.JOURNAL}/{runner}.jsonl"))
    if len(times) < 2:
        return None
    times = [t for t in times if t >= times[-1] - RATE_SECONDS]
    span = max(times[-1], time.time()) - times[0]      # if it has not finished anything since, it is slower
    return len(times) / span if span > 0 else None


def _ended_lately(fs: FileOps, path: str) -> list[float]:
    try:
        fd = fs.open_read(path)
    except OSError:
        return []
    try:
        size = os.fstat(fd).st_size
        lines = os.pread(fd, TAIL, max(0, size - TAIL)).split(b"\n")
    finally:
        os.close(fd)
    times = []
    for line in lines[1 if size > TAIL else 0:-1]:     # the first one may be cut, the last one half written
        try:
            entry = json.loads(line)
            if entry["state"] in (layout.DONE, layout.FAIL):
                times.append(datetime.fromisoformat(entry["ended"].replace("Z", "+00:00")).timestamp())
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return times

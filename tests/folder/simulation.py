"""Deterministic simulation of the folder's protocol, with the product's own classes on real files.

Every file operation of every simulated thread is a scheduling point; exactly one thread runs at a time,
and a seed fixes the whole run: who is next, who is killed or sleeps, which write is torn, which rename
answers ENOENT although it was done or is done once more later, what a person moves and copies.  Appends
go where the file ended when it was opened, as those of NFS clients do.  After every step each task must be
in exactly one place (P1) and published at most once per request (P2).  In the end a fresh runner, alone,
must bring every task to ``done/`` or ``fail/``, with its result (P3).

Each rule of the protocol has a mutant that breaks it, and that some seed must notice:

=====================================================  ==============================================
rule                                                   mutant (`MUTANTS`)
=====================================================  ==============================================
a claim's destination is the claimer's alone           claims share a destination
after an error, look for the destination: claim        claim believes ENOENT
after an error, look for the destination: moves        a move believes its error
one file, one rename                                   publish a copy
the frame is complete before the commit                publish before append
a task that was taken over is not appended to          append in place after a take-over
the name says that a task was taken over               take-over leaves no mark
a name in ``todo/`` does not come back                 release forgets the try
declaring dead names the beat that was observed        fence without the beat
a dead runner is drained until rmdir works             drain without rmdir
… and what landed meanwhile is taken back, too         drain forgets what landed meanwhile
a folder that no heartbeat belongs to is drained       orphans are forgotten
only a complete frame is rolled forward                drain publishes what is not complete
… and only that of the try that the name states        the frame of any try counts
=====================================================  ==============================================

The order of folder and heartbeat when a runner leaves needs two rules broken at once: see tests/model.

    python -m tests.folder.simulation [first seed] [number of seeds]
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from runforrest.folder import attempts, frames, journal, layout, leases, settings, transitions
from runforrest.folder.fsio import NOFOLLOW, FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import Settings
from runforrest.folder.stored import ATTEMPT, ENVELOPE, StoredTask, side_ending
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.limits import CRASH_LIMIT, Limits
from runforrest.model.names import TAGS, Name

from .support import lease_of

CALM_STEPS = 30_000


class Killed(BaseException):
    """The simulated process is dead."""


class Violation(AssertionError):
    """The protocol broke a promise."""


def call_of(id: str) -> bytes:
    return b"call of " + id.encode()


def result_of(name: Name) -> bytes:
    return f"result of {name.id}".encode()


def closed_lock() -> threading.Lock:
    """A lock that whoever waits for it gets by another's release: half the price of a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class World:
    """The scheduler, and what is known of the run."""

    def __init__(self, seed: int, root: str) -> None:
        self.random = random.Random(seed)
        self.root = root
        self.turn = closed_lock()
        self.threads: dict[threading.Thread, tuple[threading.Lock, int]] = {}
        self.step = 0
        self.asleep: dict[threading.Thread, int] = {}          # thread → the step at which it wakes up
        self.dead: dict[int, int] = {}             # process → the step at which its children are dead, too
        self.chaos = True
        self.changed = True                        # something was renamed since the last check
        self.error: BaseException | None = None
        self.published: Counter[str] = Counter()
        self.requested: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.scheduled: set[str] = set()
        self.begun: set[Name] = set()
        self.replays: list[tuple[str, str]] = []
        self.events: Counter[str] = Counter()

    def spawn(self, process: int, target: Callable[[], None]) -> None:
        mine = closed_lock()

        def body() -> None:
            mine.acquire()
            try:
                if process not in self.dead:
                    target()
            except Killed:
                pass
            except BaseException as error:
                self.error = error
            finally:
                del self.threads[thread]
                self.turn.release()

        thread = threading.Thread(target=body, daemon=True)
        self.threads[thread] = (mine, process)
        thread.start()

    def run(self, nemesis: Callable[[], None], steps: int) -> bool:
        """True if all threads came to their end."""
        asleep = self.asleep
        for _ in range(steps):
            self.step += 1
            if not self.threads:
                return True
            ready = [thread for thread in self.threads if asleep.get(thread, 0) <= self.step]
            if not ready:
                asleep.clear()
                continue
            thread = self.random.choice(ready)
            if self.chaos and self.random.random() < 0.04:      # a pause, maybe a long one
                asleep[thread] = self.step + int(self.random.expovariate(1 / 60))
                continue
            self.threads[thread][0].release()
            self.turn.acquire()
            if self.error is not None:
                raise self.error
            nemesis()
        return not self.threads

    def end(self) -> None:
        """Kill whatever still runs, so that no thread is left behind."""
        self.chaos, self.error = False, None
        for _, process in list(self.threads.values()):
            self.dead[process] = 0
        while self.threads:
            next(iter(self.threads.values()))[0].release()
            self.turn.acquire()


class SimulatedOps(FileOps):
    """The folder as one process sees it through an unreliable client of a file server."""

    def __init__(self, world: World, process: int) -> None:
        super().__init__(world.root)
        self.world, self.process = world, process
        self.fenced = ""                           # the beat that it has last renamed to 'dead'

    def before(self, operation: str, *args: Any) -> None:
        world, thread = self.world, threading.current_thread()
        world.events["operations"] += 1
        if thread not in world.threads:
            return
        world.turn.release()
        world.threads[thread][0].acquire()
        if self.process not in world.dead:
            return
        if thread.name.startswith("slot") and world.step < world.dead[self.process]:
            return                                 # the children outlive their runner for a while
        raise Killed

    def torn(self, fd: int, at: int, chunks: Iterable[bytes]) -> None:
        """Killed in the middle of a write: maybe a part of it has reached the file."""
        data = b"".join(chunks)
        if self.world.random.random() < 0.7:
            os.pwrite(fd, data[:self.world.random.randrange(len(data))], at)
            self.world.events["torn writes"] += 1

    def _fill(self, fd: int, name: str, chunks: Iterable[bytes], force: bool, start: int | None = None) -> None:
        try:
            super()._fill(os.dup(fd), name, chunks, force, start)
        except Killed:
            self.torn(fd, 0, chunks)
            raise
        finally:
            os.close(fd)

    def append(self, name: str, chunks: Iterable[bytes], cut: int | None = None) -> None:
        self.before("open", name)
        fd = os.open(self.path(name), os.O_WRONLY | NOFOLLOW)
        try:
            if cut is not None and cut != os.fstat(fd).st_size:
                self.before("truncate", name, cut)
                os.ftruncate(fd, cut)
            end = os.fstat(fd).st_size
            if self.world.chaos and self.world.random.random() < 0.2:   # the file is open, and the world goes on
                self.world.asleep[threading.current_thread()] = self.world.step + self.world.random.randrange(500)
            try:
                self.before("write", name, chunks)
            except Killed:
                self.torn(fd, end, chunks)
                raise
            os.pwrite(fd, b"".join(chunks), end)
        finally:
            os.close(fd)

    def rename(self, source: str, destination: str) -> None:
        self.before("rename", source, destination)
        world = self.world
        try:
            os.rename(self.path(source), self.path(destination))
        except FileNotFoundError:       # GlusterFS, NFS and others take it for the second of two links, and say 'done'
            if world.chaos and os.path.exists(self.path(destination)) and world.random.random() < 0.7:
                world.events["false success"] += 1
                return
            raise
        world.changed = True
        if destination.endswith("@dead"):
            self.fenced = source.rpartition("@")[2]
        if source.startswith("doing/"):
            name = Name.parse(destination.rpartition("/")[2])
            if name is not None and destination.startswith(("done/", "fail/")):
                world.published[name.id] += 1
                check_result(FileOps(world.root), destination.partition("/")[0], name)
            elif name is not None and name.lost > (Name.parse(source.rpartition("/")[2]) or name).lost:
                world.events["take-overs"] += 1
        if world.chaos and world.random.random() < 0.2:
            world.replays.append((source, destination))
        if world.chaos and world.random.random() < 0.03:
            world.events["false ENOENT"] += 1
            raise FileNotFoundError(2, "a reply was lost", source)


class SimulatedMembership(Membership):
    """Can tell for sure that some of the others are dead: those on its own host."""

    fs: SimulatedOps

    def __init__(self, folder: TaskFolder, runner: str, world: World) -> None:
        super().__init__(folder, runner)
        self.world = world

    def _proven_dead(self, runner: str, number: str) -> bool:
        process = int(runner[1:]) if runner[1:].isdigit() else -1
        gone = self.world.step > self.world.dead.get(process, sys.maxsize)
        return gone and process % 2 == int(self.runner[1:] or 0) % 2

    def fence(self, runner: str, number: str) -> bool:
        self.fs.fenced = number
        fenced = super().fence(runner, number)
        if self.fs.fenced != number:
            raise Violation(f"P3: {runner} was declared dead at beat {self.fs.fenced}, and seen silent at {number}")
        return fenced


def write_and_publish(folder: TaskFolder, mine: Name, runner: str, record: dict[str, Any], payload: bytes,
                      cut: int | None, state: str) -> None:
    """What child and runner do at the end of an attempt."""
    attempts.write_attempt(folder.fs, f"{layout.DOING}/{runner}/{mine}", mine, record, payload, cut)
    move(folder, mine, runner, state)


def move(folder: TaskFolder, mine: Name, runner: str, state: str) -> None:
    """Out of ``doing/``; what can't be moved now is moved later."""
    while True:
        try:
            (folder.release(mine, runner) if state == layout.TODO else folder.commit(mine, runner, state))
            return
        except OSError:
            folder.fs.before("sleep")


class Runner:
    """A simulated runner: a keeper, and two slots."""

    def __init__(self, world: World, lease: int, start: Callable[[], None]) -> None:
        self.world, self.start_another = world, start
        self.process = world.events["runners"]
        world.events["runners"] += 1
        self.name = f"R{self.process}"
        self.fs = SimulatedOps(world, self.process)
        self.folder = self.folder_of(lease)
        self.membership = SimulatedMembership(self.folder, self.name, world)
        self.told_to_leave = False
        self.slots, self.parts = 2, 3

    def set_lease(self, lease: int) -> None:
        self.membership.folder = self.folder_of(lease)

    def folder_of(self, lease: int) -> TaskFolder:
        folder = TaskFolder(self.fs, lease_of(lease))
        folder.local = False
        return folder

    def keeper(self) -> None:
        world = self.world
        try:
            self.membership.register()
        except OSError:                            # said so and ended, as a runner does
            return
        world.spawn(self.process, self.slot)
        world.spawn(self.process, self.slot)
        self.look_after_others()
        self.leave()

    def look_after_others(self) -> None:
        world = self.world
        while self.slots and not self.told_to_leave:
            try:
                alive = self.membership.beat()
            except OSError:
                continue
            if not alive:
                world.events["found themselves declared dead"] += 1
                while world.chaos and world.random.random() < 0.9:       # one that does not get it, for a while
                    self.fs.before("sleep")
                world.dead[self.process] = world.step
                self.start_another()
                raise Killed
            try:
                self.membership.watch()
            except OSError:
                continue

    def slot(self) -> None:
        threading.current_thread().name = "slot"
        try:
            while not self.told_to_leave and not idle(self.world.root):
                if not self.work():
                    self.fs.before("sleep")
        finally:
            self.slots -= 1
        self.leave()

    def work(self) -> bool:
        try:
            names = list(self.folder.names("todo"))
        except OSError:
            return False
        self.world.random.shuffle(names)
        for name in names:
            try:
                mine = self.folder.claim(name, self.name)
            except OSError:
                continue
            if mine is not None:
                self.attempt(mine)
                return True
        return False

    def attempt(self, mine: Name) -> None:
        world, path = self.world, f"{layout.DOING}/{self.name}/{mine}"
        if mine in world.begun:
            raise Violation(f"P2: {mine} is begun twice")
        world.begun.add(mine)
        try:
            task = StoredTask.open(self.fs, path, mine)
        except FileNotFoundError:
            return
        self.fs.before("run")
        if self.told_to_leave:
            move(self.folder, mine, self.name, layout.TODO)
            return
        returned = world.random.random() < 0.7
        outcome = outcomes.RETURNED if returned else outcomes.RAISED
        state = layout.DONE
        if not returned:
            counts = task.counts()
            counts[outcome] = counts.get(outcome, 0) + 1
            again = Limits.from_json(task.envelope.get("limits")).allows_another(outcome, counts)
            state = layout.TODO if again else layout.FAIL
        record = {"frame": ATTEMPT, "attempt": mine.attempt, "number": mine.tries, "outcome": outcome,
                  "runner": self.name, "payload": "value"}
        try:
            write_and_publish(self.folder, mine, self.name, record, result_of(mine),
                              world.random.choice([None, task.end]), state)
        except attempts.TakenOver:
            world.events["taken over"] += 1

    def leave(self) -> None:
        """Keeper and slots have ended: the last of them signs off."""
        self.parts -= 1
        if self.parts:
            return
        try:
            self.membership.leave()
            if not self.membership.peers():
                journal.tidy(self.fs)
        except OSError:
            pass


def idle(root: str) -> bool:
    return not os.listdir(f"{root}/todo") and not any(os.listdir(folder) for folder in claimed(root))


def claimed(root: str) -> list[str]:
    try:
        return [f"{root}/doing/{name}" for name in os.listdir(f"{root}/doing")]
    except FileNotFoundError:
        return []


def places(root: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for folder in (*(f"{root}/{state}" for state in ("todo", "done", "fail")), *claimed(root)):
        if os.path.isdir(folder):
            found.update(name.id for name in map(Name.parse, os.listdir(folder)) if name is not None)
    return found


def check_result(fs: FileOps, state: str, name: Name) -> None:
    """A file in done/ or fail/ holds the call and the result of the attempt that it names."""
    path = f"{state}/{name}"
    task = StoredTask.open(fs, path, name)
    fd = fs.open_read(path)
    try:
        call, payload = task.call(fd), StoredTask.read(fd, name).payload(fd)
    finally:
        os.close(fd)
    if call != call_of(name.id):
        raise Violation(f"P1: the call in {path} is damaged")
    record = task.result()
    if record is None:
        raise Violation(f"P2: {path} lacks its result")
    losses = task.counts().get(outcomes.LOST, 0)        # as the name or the records have it: of all copies of a task
    if record["outcome"] == outcomes.LOST:
        if state != layout.FAIL or losses < CRASH_LIMIT:
            raise Violation(f"P2: {path} has only the record of a loss")
        return
    # given up at its last loss, and its owner ended it all the same: it stays in fail/, with its result
    given_up = state == layout.FAIL and losses >= CRASH_LIMIT
    if (record["outcome"] == outcomes.RETURNED) != (state == layout.DONE) and not given_up:
        raise Violation(f"P2: {path} {record['outcome']}")
    if (side_ending(fs, name)[1] if payload is None else payload) != result_of(name):
        raise Violation(f"P2: the result in {path} is damaged")


class Run:
    """One seed."""

    def __init__(self, seed: int, root: str) -> None:
        self.world = world = World(seed, root)
        self.root, self.random = root, world.random
        self.fs = FileOps(root)
        self.runners: list[Runner] = []
        self.folder = TaskFolder(self.fs, settings.create(self.fs, "none"))
        for number in range(self.random.randint(1, 4)):
            self.schedule(self.folder, f"task{number}")
        self.budget = {"kill": self.random.randint(0, 3), "mv": self.random.randint(0, 2),
                       "cp": self.random.choice([0, 0, 1]), "term": self.random.choice([0, 0, 1]),
                       "rmdir": self.random.choice([0, 0, 1])}

    def schedule(self, folder: TaskFolder, id: str) -> None:
        limits = {"retries": self.random.choice([0, 0, 1])}
        folder.schedule(id, call_of(id), {"frame": ENVELOPE, "id": id, "limits": limits})
        self.world.scheduled.add(id)

    def start(self) -> None:
        runner = Runner(self.world, self.random.choice([0, 1, 2, 4]) if self.world.chaos else 30, self.start)
        self.runners.append(runner)
        self.world.spawn(runner.process, runner.keeper)

    def user(self) -> None:
        """Somebody who schedules more while the others work."""
        folder = TaskFolder(SimulatedOps(self.world, -1), Settings())
        for number in range(self.random.randint(0, 2)):
            self.schedule(folder, f"later{number}")

    def execute(self) -> Counter[str]:
        try:
            for _ in range(self.random.randint(1, 3)):
                self.start()
            self.world.spawn(-1, self.user)
            self.world.run(self.nemesis, self.random.choice([100, 300, 1000]))
            self.calm()
        finally:
            self.world.end()
        self.check()
        self.rescue()
        self.count()
        return self.world.events

    def calm(self) -> None:
        """No more accidents: those who live must come to an end by themselves."""
        self.world.chaos = False
        if self.random.random() < 0.5:
            for runner in self.runners:
                runner.set_lease(30)
            self.start()
            if not self.world.run(self.nemesis, CALM_STEPS):
                raise Violation(f"P3: the runners do not come to an end: {dict(places(self.root))}")

    # -- what goes wrong -------------------------------------------------------------------

    def nemesis(self) -> None:
        if self.world.changed:
            self.world.changed = False
            self.check()
        if not self.world.chaos:
            return
        for what, chance in (("kill", 0.01), ("term", 0.01), ("mv", 0.02), ("cp", 0.02), ("rmdir", 0.005)):
            if self.budget[what] and self.random.random() < chance and getattr(self, what)():
                self.budget[what] -= 1
                self.world.changed = True
                self.world.events[what] += 1
        if self.world.replays and self.random.random() < 0.05:
            self.replay()

    def kill(self) -> bool:
        alive = [runner for runner in self.runners if runner.process not in self.world.dead]
        if not alive:
            return False
        delay = self.random.choice([0, 0, 20, 200])
        self.world.dead[self.random.choice(alive).process] = self.world.step + delay
        self.start()
        return True

    def term(self) -> bool:
        self.random.choice(self.runners).told_to_leave = True
        self.start()
        return True

    def mv(self) -> bool:
        for name in self.folder.names("fail"):
            if not os.path.exists(self.fs.path(f"todo/{name}")):
                self.world.requested[name.id] += 1
                return self.folder.requeue(name, "fail")
        return False

    def cp(self) -> bool:
        for state in ("done", "fail"):
            for name in self.folder.names(state):
                if not os.path.exists(self.fs.path(f"todo/{name}")):
                    shutil.copy(self.fs.path(f"{state}/{name}"), self.fs.path(f"todo/{name}"))
                    self.world.requested[name.id] += 1
                    self.world.copies[name.id] += 1
                    return True
        return False

    def rmdir(self) -> bool:
        try:
            os.rmdir(self.fs.path(self.random.choice(["done", "fail"])))
        except OSError:
            return False
        return True

    def replay(self) -> None:
        """The server carries out a rename once more, best one whose source is there again.

        (With copies about it may merge two of them: see the model.)
        """
        if self.world.copies or self.budget["cp"]:
            self.world.replays.clear()
            return
        replays = self.world.replays
        source, destination = next((r for r in replays if os.path.exists(self.fs.path(r[0]))), None) or \
            self.random.choice(replays)
        replays.remove((source, destination))
        try:
            os.rename(self.fs.path(source), self.fs.path(destination))
        except OSError:
            self.world.events["replays"] += 1
            return
        raise Violation(f"P1: {source} was there again when the server repeated its rename to {destination}")

    # -- what must hold --------------------------------------------------------------------

    def check(self) -> None:
        found = places(self.root)
        world = self.world
        for id in {*found, *world.scheduled}:
            least = 1 if id in world.scheduled else 0
            if not least <= found[id] - world.copies[id] <= 1:
                raise Violation(f"P1: {id} is in {found[id]} places, not in {1 + world.copies[id]}")
            if world.published[id] > 1 + world.requested[id]:
                raise Violation(f"P2: {id} was published {world.published[id]} times")

    def rescue(self) -> None:
        folder = TaskFolder(self.fs, lease_of(0))
        last = Membership(folder, "rescue")
        last.register()
        for _ in range(20):
            last.watch()
            for name in list(folder.names("todo")):
                mine = folder.claim(name, "rescue")
                if mine is None:
                    raise Violation(f"P3: {name} can't be claimed")
                record = {"frame": ATTEMPT, "attempt": mine.attempt, "outcome": outcomes.RETURNED, "payload": "value"}
                attempts.write_attempt(self.fs, f"doing/rescue/{mine}", mine, record, result_of(mine))
                folder.commit(mine, "rescue", "done")
                self.world.published[mine.id] += 1
        last.leave()
        self.check()
        for what in ("doing", "todo", layout.HB):
            if os.listdir(self.fs.path(what)):
                raise Violation(f"P3: not everything was drained: {what} has {os.listdir(self.fs.path(what))}")
        for state in ("done", "fail"):
            for name in folder.names(state):
                check_result(self.fs, state, name)

    def count(self) -> None:
        events = self.world.events
        try:
            events["duplicates kept"] += len(os.listdir(self.fs.path(layout.DUP)))
        except FileNotFoundError:
            pass
        events["publications"] += self.world.published.total()
        events["steps"] += self.world.step


@contextmanager
def tags_from(seed: int) -> Iterator[None]:
    """Tags come from the seed, too; and nobody waits for a lock that a sleeping thread holds."""
    source = random.Random(f"tags {seed}")

    def new_tag(length: int = 4) -> str:
        return "".join(source.choice(TAGS) for _ in range(length))

    with (mock.patch.object(transitions, "new_tag", new_tag), mock.patch.object(attempts, "new_tag", new_tag),
          mock.patch.object(settings, "new_tag", new_tag), mock.patch.object(journal, "LOCK_SECONDS", 0)):
        yield


def one_run(seed: int, folder: str | os.PathLike[str]) -> Counter[str]:
    """Raises Violation, or whatever the product raised; else counts what happened."""
    root = tempfile.mkdtemp(prefix=f"seed{seed}-", dir=folder)
    with tags_from(seed):
        events = Run(seed, root).execute()
    shutil.rmtree(root)
    return events


def several(first: int, number: int, folder: str | os.PathLike[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for seed in range(first, first + number):
        try:
            total += one_run(seed, folder)
        except BaseException as error:
            error.add_note(f"seed {seed}") if hasattr(error, "add_note") else None
            raise
    return total


# -- rules, broken -----------------------------------------------------------------------------


def claim_believes_enoent(self: TaskFolder, name: Name, runner: str) -> Name | None:
    mine = name.claimed(transitions.new_tag())
    try:
        self.fs.rename(f"todo/{name}", f"doing/{runner}/{mine}")
    except OSError:
        return None
    return mine


def append_in_place(fs: FileOps, path: str, name: Name, record: dict[str, Any], payload: bytes = b"",
                    cut: int | None = None) -> None:
    chunks = frames.encode(record, payload)
    try:
        fs.append(path, chunks, cut)
    except FileNotFoundError:
        raise attempts.TakenOver(path) from None


def drain_without_rmdir(self: Membership, runner: str) -> bool:
    for entry in self.fs.entries(f"doing/{runner}"):
        name = Name.parse(entry)
        if name is not None:
            self._take_back(runner, f"doing/{runner}", name)
    self.fs.unlink(f"{layout.HB}/{runner}@dead")
    return True


def forget_after_one_round(self: Membership, runner: str) -> bool:
    """Removes the folder with whatever landed in it meanwhile."""
    for entry in self.fs.entries(f"doing/{runner}"):
        name = Name.parse(entry)
        if name is not None:
            self._take_back(runner, f"doing/{runner}", name)
    self.fs.before("rmdir")
    shutil.rmtree(self.fs.path(f"doing/{runner}"), ignore_errors=True)
    self.fs.unlink(f"{layout.HB}/{runner}@dead")
    return True


def taken_without_a_mark(self: Name) -> Name:
    return Name(self.id, self.tries, self.tag, self.lost)


def publish_before_append(folder: TaskFolder, mine: Name, runner: str, record: dict[str, Any], payload: bytes,
                          cut: int | None, state: str) -> None:
    move(folder, mine, runner, state)
    attempts.write_attempt(folder.fs, f"{state}/{mine}", mine, record, payload, cut)


def publish_a_copy(self: TaskFolder, name: Name, runner: str, state: str) -> bool:
    """As one would without 'one inode, one rename': write the destination, then remove the claim."""
    source = f"doing/{runner}/{name}"
    try:
        data = self.fs.read(source)
    except FileNotFoundError:
        return False
    self.fs.create(f"{layout.TMP}/{name}", [data])
    os.makedirs(self.fs.path(state), exist_ok=True)
    os.rename(self.fs.path(f"{layout.TMP}/{name}"), self.fs.path(f"{state}/{name}"))
    self.fs.unlink(source)
    return True


def move_that_asks_nothing(self: TaskFolder, source: str, destination: str) -> bool:
    """A lost reply reads as 'taken over': the loser writes its own copy of what it had published."""
    try:
        self.fs.rename(source, destination)
        return True
    except OSError:
        name = Name.parse(destination.rpartition("/")[2])
        assert name is not None
        self.fs.create(f"todo/{name.claimed(transitions.new_tag())}", [call_of(name.id)])
        return False


def claim_to_one_name(self: TaskFolder, name: Name, runner: str) -> Name | None:
    """All slots of a runner claim to the same name."""
    with mock.patch.object(transitions, "new_tag", lambda length=4: "aaaa"):
        return claim(self, name, runner)


def release_without_the_try(self: TaskFolder, name: Name, runner: str) -> bool:
    return self.move(f"doing/{runner}/{name}", f"todo/{Name(name.id, name.tries - 1, '0000', name.lost)}")


def fence_whatever_it_beats(self: Membership, runner: str, number: str) -> bool:
    for entry in self.fs.entries(layout.HB):
        if entry.rpartition("@")[0] == runner:
            try:
                self.fs.rename(f"{layout.HB}/{entry}", f"{layout.HB}/{runner}@dead")
            except OSError:
                return False
    return True


def peers_with_a_heartbeat(self: Membership) -> dict[str, str]:
    return {runner: number for runner, number in peers(self).items() if number != leases.ORPHAN}


def roll_any_frame_forward(self: Membership, runner: str, path: str, name: Name) -> str:
    task = StoredTask.open(self.fs, path, name)
    if task.attempts:
        return f"{'done' if task.attempts[-1].get('outcome') == outcomes.RETURNED else 'fail'}/{name}"
    return destination(self, runner, path, name)


def roll_everything_forward(self: Membership, runner: str, path: str, name: Name) -> str:
    return f"done/{name}"


claim, peers, destination = TaskFolder.claim, Membership.peers, Membership._destination

#: what is broken, and what to put where
MUTANTS: dict[str, tuple[object, str, object]] = {
    "claim believes ENOENT": (TaskFolder, "claim", claim_believes_enoent),
    "append in place after a take-over": (attempts, "write_attempt", append_in_place),
    "drain without rmdir": (Membership, "drain", drain_without_rmdir),
    "drain forgets what landed meanwhile": (Membership, "drain", forget_after_one_round),
    "take-over leaves no mark": (Name, "taken", taken_without_a_mark),
    "publish before append": (sys.modules[__name__], "write_and_publish", publish_before_append),
    "publish a copy": (TaskFolder, "commit", publish_a_copy),
    "a move believes its error": (TaskFolder, "move", move_that_asks_nothing),
    "drain publishes what is not complete": (Membership, "_destination", roll_everything_forward),
    "claims share a destination": (TaskFolder, "claim", claim_to_one_name),
    "release forgets the try": (TaskFolder, "release", release_without_the_try),
    "fence without the beat": (Membership, "fence", fence_whatever_it_beats),
    "orphans are forgotten": (Membership, "peers", peers_with_a_heartbeat),
    "the frame of any try counts": (Membership, "_destination", roll_any_frame_forward),
}


def seeds_until_noticed(mutant: str, most: int, folder: str | os.PathLike[str]) -> tuple[int, BaseException] | None:
    """The first seed that fails with this rule broken, and how."""
    where, attribute, broken = MUTANTS[mutant]
    with mock.patch.object(where, attribute, broken):
        for seed in range(most):
            try:
                one_run(seed, folder)
            except Exception as error:
                return seed, error
    return None


def main() -> None:
    first, number = (int(word) for word in (sys.argv[1:] + ["0", "200"][len(sys.argv) - 1:])[:2])
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for what, count in sorted(several(first, number, folder).items()):
            print(f"{what:34}{count:10}")


if __name__ == "__main__":
    main()

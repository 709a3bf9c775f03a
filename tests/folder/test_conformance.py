"""The steps of the protocol's model, carried out by the product on a real folder: both must come to the same.

Random walks through the model; what changes in its state says which call of the product's that is.  A keeper
that has read a task moves it next, and who has opened a file writes to it next, as these are one call there.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from runforrest.folder import layout
from runforrest.folder.leases import Membership
from runforrest.folder.stored import StoredTask
from runforrest.model.names import Name
from tests.model import protocol as model
from tests.model.protocol import APPEND, DEAD, DOING, LOOK, NO_BEAT, TODO, Protocol, Size, State

from .simulation import MUTANTS
from .support import lease_of, make, schedule, write

Tried = Callable[[str, int], None]

WALKS, LONGEST = 300, 60
STATES = (layout.TODO, layout.DONE, layout.FAIL)


class Walk:
    """One walk, and the folder that goes with it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.protocol = Protocol(Size(2, 2, raised=2, moved=1, told=1), symmetric=False)
        self.state = self.protocol.initial()
        self.folder = make(root)
        self.folder.settings = lease_of(0, self.folder.settings)
        self.names = [schedule(self.folder, f"task{number}") for number in range(2)]     # of each task, now
        self.members = [Membership(self.folder, f"R{number}") for number in range(2)]
        for member in self.members:
            member.register()
        self.keeper = Membership(self.folder, "keeper")

    def next(self) -> State | None:
        """Any step, but those whose call has begun come first."""
        steps = [step for _, step in self.protocol.steps(self.state)
                 if not any(runner.next[0] == LOOK for runner in step.runners)]
        begun = [r for r, runner in enumerate(self.state.runners) if runner.next[0] == APPEND]
        if begun:
            steps = [step for step in steps if step.runners[begun[0]] != self.state.runners[begun[0]]]
        elif self.state.keepers:
            steps = [step for step in steps if len(step.keepers) < len(self.state.keepers)]
        return self.random.choice(steps) if steps else None

    def go(self) -> bool:
        """One step in both; False at the end."""
        new = self.next()
        if new is None:
            return False
        old, self.state = self.state, new
        for before, after in zip(old.files, new.files, strict=True):
            if before[:2] != after[:2]:
                self.move(before[:2], after[:2], bool(old.keepers))
            elif before[2] != after[2]:
                self.write(before[0] - DOING, after)
        for attempt in new.side - old.side:
            (r,) = [file[0] - DOING for file in new.files if file[1][0] == attempt[0]]
            if r >= 0:
                self.write_frame(r, attempt[0], attempt[3])
        for r in range(2):
            self.heartbeat(r, old.runners[r], new.runners[r])
        return True

    def move(self, before: model.Place, after: model.Place, keeper: bool) -> None:
        task, name = before[1][0], self.names[before[1][0]]
        if keeper:
            home = f"doing/R{before[0] - DOING}"
            self.keeper._take_back(f"R{before[0] - DOING}", home, name)
            self.names[task] = name if after[1] == before[1] else name.taken()
        elif before[0] == TODO:
            mine = self.folder.claim(name, f"R{after[0] - DOING}")
            assert mine is not None
            self.names[task] = mine
        elif before[0] < DOING:
            assert self.folder.requeue(name, STATES[before[0]])
        elif after[0] == TODO:
            assert self.folder.release(name, f"R{before[0] - DOING}")
        else:
            assert self.folder.commit(name, f"R{before[0] - DOING}", STATES[after[0]])

    def write(self, r: int, file: model.File) -> None:
        task = file[1][0]
        if file[2][-1] == model.TORN:
            self.folder.fs.append(f"doing/R{r}/{self.names[task]}", [b"half a frame"])
        else:
            self.write_frame(r, task, file[2][-1] % 2 == 1)

    def write_frame(self, r: int, task: int, raised: bool) -> None:
        name = self.names[task]
        path = f"doing/R{r}/{name}"
        end = StoredTask.open(self.folder.fs, path, name).end
        write(self.folder.fs, path, name, f"R{r}", "raised" if raised else "returned", cut=end)

    def heartbeat(self, r: int, before: model.Runner, after: model.Runner) -> None:
        if before.beat != after.beat == DEAD:
            assert self.keeper.fence(f"R{r}", "0")
        elif before.beat != after.beat == NO_BEAT:
            self.folder.fs.unlink(f"{layout.HB}/R{r}@{'dead' if before.beat == DEAD else 0}")
        if before.home and not after.home:
            self.folder.fs.rmdir(f"doing/R{r}")

    def compare(self) -> None:
        """Where each task is and under which name; which folders and heartbeats there are."""
        for task, (place, (_, tries, _, lost), frames) in enumerate(self.state.files):
            folder = f"doing/R{place - DOING}" if place >= DOING else STATES[place]
            name = self.names[task]
            assert self.folder.fs.exists(f"{folder}/{name}"), (folder, name, self.state)
            assert (name.tries, name.lost) == (tries, lost)
            stored = StoredTask.open(self.folder.fs, f"{folder}/{name}", Name(name.id, name.tries, name.tag))
            in_file = [f.record["number"] for f in stored._frames if f.record["frame"] == "attempt"]
            assert in_file == [frame // 2 for frame in frames if frame != model.TORN]
        for r, runner in enumerate(self.state.runners):
            assert self.folder.fs.exists(f"doing/R{r}") == bool(runner.home)
            assert self.folder.fs.exists(f"{layout.HB}/R{r}@dead") == (runner.beat == DEAD)


def walks(folder: Path, number: int) -> int:
    """How many steps were the same in both."""
    steps = 0
    for seed in range(number):
        walk = Walk(folder / str(seed), seed)
        for _ in range(LONGEST):
            if not walk.go():
                break
            walk.compare()
            steps += 1
        shutil.rmtree(folder / str(seed))
    return steps


def test_random_walks_through_the_model(quick_folder: Path, tried: Tried) -> None:
    tried("steps of the model that the product took, too", walks(quick_folder, WALKS))


@pytest.mark.parametrize("mutant", [
    "take-over leaves no mark", "drain publishes what is not complete", "append in place after a take-over",
    "release forgets the try"])
def test_another_product_is_noticed(quick_folder: Path, mutant: str) -> None:
    with mock.patch.object(*MUTANTS[mutant]), pytest.raises(AssertionError):
        walks(quick_folder, WALKS)

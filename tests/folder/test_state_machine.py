"""Runners, accidents and a person's hand on one real folder, in any order that Hypothesis comes upon."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from runforrest.folder import attempts, journal, layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.model.names import Name

from .simulation import MUTANTS, Violation, check_result
from .support import lease_of, make, places, schedule, with_lease, write

Tried = Callable[[str, int], None]

MOST_TASKS, MOST_RUNNERS = 6, 5
number = st.integers(0, 1000)


class Publications(FileOps):
    """Counts what is moved out of doing/ into done/ or fail/."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.published: Counter[str] = Counter()

    def after(self, operation: str, *args: Any) -> None:
        if operation == "rename" and args[0].startswith("doing/") and args[1].startswith(("done/", "fail/")):
            name = Name.parse(args[1].partition("/")[2])
            assert name is not None
            self.published[name.id] += 1
            check_result(FileOps(self.root), args[1].partition("/")[0], name)


class TaskListMachine(RuleBasedStateMachine):
    """Whoever is named by a number is picked among those that there are."""

    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.base = tempfile.mkdtemp(prefix="runforrest-test-", dir=memory)
        self.root = f"{self.base}/list"
        self.fs = Publications(self.root)
        self.folder = make(self.root, "none", self.fs)
        self.runners: dict[str, Membership] = {}
        self.held: dict[str, list[Name]] = {}           # by runner, also by those that are asleep
        self.asleep: set[str] = set()
        self.stale: list[Name] = []                     # names that were listed once
        self.expected: Counter[str] = Counter()         # files of each task
        self.requested: Counter[str] = Counter()
        self.made = 0
        for lease in (1, 2):
            self.schedule(lease)
            self.start_runner(lease)

    # -- tasks and runners -----------------------------------------------------------------

    @precondition(lambda self: len(self.expected) < MOST_TASKS)
    @rule(retries=st.integers(0, 2))
    def add_a_task(self, retries: int) -> None:
        self.schedule(retries)

    def schedule(self, retries: int) -> None:
        id = f"task{len(self.expected)}"
        schedule(self.folder, id, retries=retries)
        self.expected[id] += 1

    @precondition(lambda self: len(self.runners) < MOST_RUNNERS)
    @rule(lease=st.integers(0, 3))
    def add_a_runner(self, lease: int) -> None:
        self.start_runner(lease)

    def start_runner(self, lease: int) -> None:
        name, self.made = f"R{self.made}", self.made + 1
        member = Membership(TaskFolder(self.fs, lease_of(lease)), name)
        member.register()
        self.runners[name], self.held[name] = member, []

    @precondition(lambda self: self.awake())
    @rule(who=number, which=number, late=st.booleans())
    def claim(self, who: int, which: int, late: bool) -> None:
        """``late``: out of a listing of long ago."""
        runner, now = self.pick(self.awake(), who), self.folder.names(layout.TODO)
        self.stale += now
        candidates = self.stale if late else now
        if candidates:
            try:
                mine = self.folder.claim(self.pick(candidates, which), runner)
            except FileNotFoundError:       # its folder was drained
                return
            if mine is not None:
                self.held[runner].append(mine)

    @precondition(lambda self: self.busy())
    @rule(who=number, which=number, returns=st.booleans(), torn=st.booleans(), cut=st.booleans())
    def finish(self, who: int, which: int, returns: bool, torn: bool, cut: bool) -> None:
        self.end(*self.take(who, which), returns, torn, cut)

    @precondition(lambda self: self.awake())
    @rule(who=number, returns=st.booleans())
    def run_all(self, who: int, returns: bool) -> None:
        """All that is in todo/, one after the other."""
        runner = self.pick(self.awake(), who)
        for name in self.folder.names(layout.TODO):
            try:
                mine = self.folder.claim(name, runner)
            except FileNotFoundError:
                return
            if mine is not None:
                self.end(runner, mine, returns, False, False)

    def end(self, runner: str, mine: Name, returns: bool, torn: bool, cut: bool) -> None:
        path = f"doing/{runner}/{mine}"
        try:
            task = StoredTask.open(self.fs, path, mine)
        except FileNotFoundError:           # taken over, or removed
            return
        if torn and not mine.lost:          # a child that died while it wrote
            self.fs.append(path, [b"half of a frame"])
        outcome = outcomes.RETURNED if returns else outcomes.RAISED
        try:
            write(self.fs, path, mine, runner, outcome, cut=task.end if cut or torn else None)
        except attempts.TakenOver:
            return
        counts = task.counts()
        counts[outcome] = counts.get(outcome, 0) + 1
        limits = Limits.from_json(task.envelope.get("limits"))
        if returns:
            self.folder.commit(mine, runner, layout.DONE)
        elif limits.allows_another(outcome, counts):
            self.folder.release(mine, runner)
        else:
            self.folder.commit(mine, runner, layout.FAIL)

    @precondition(lambda self: self.busy())
    @rule(who=number, which=number)
    def release(self, who: int, which: int) -> None:
        runner, mine = self.take(who, which)
        self.folder.release(mine, runner)

    @precondition(lambda self: self.awake())
    @rule(who=number, rounds=st.integers(1, 4))
    def beat_and_watch(self, who: int, rounds: int) -> None:
        runner = self.pick(self.awake(), who)
        for _ in range(rounds):
            if not self.runners[runner].beat():
                self.forget(runner)         # fenced
                return
            self.runners[runner].watch()

    @precondition(lambda self: self.awake())
    @rule(who=number)
    def leave(self, who: int) -> None:
        runner = self.pick(self.awake(), who)
        for mine in self.held[runner]:
            self.folder.release(mine, runner)
        self.runners[runner].leave()
        if not self.runners[runner].peers():
            journal.tidy(self.fs)
        self.forget(runner)

    # -- accidents -------------------------------------------------------------------------

    @precondition(lambda self: self.runners)
    @rule(who=number)
    def kill(self, who: int) -> None:
        self.forget(self.pick(sorted(self.runners), who))

    @precondition(lambda self: self.awake())
    @rule(who=number)
    def pause(self, who: int) -> None:
        self.asleep.add(self.pick(self.awake(), who))

    @precondition(lambda self: self.asleep)
    @rule(who=number)
    def wake(self, who: int) -> None:
        self.asleep.remove(self.pick(sorted(self.asleep), who))

    # -- a person --------------------------------------------------------------------------

    @rule(which=number)
    def mv_failed_to_todo(self, which: int) -> None:
        names = self.movable(layout.FAIL)
        if names:
            name = self.pick(names, which)
            os.rename(f"{self.root}/fail/{name}", f"{self.root}/todo/{name}")
            self.requested[name.id] += 1

    @rule(which=number, state=st.sampled_from([layout.DONE, layout.FAIL]))
    def cp_to_todo(self, which: int, state: str) -> None:
        names = self.movable(state)
        if names:
            name = self.pick(names, which)
            shutil.copy(f"{self.root}/{state}/{name}", f"{self.root}/todo/{name}")
            self.requested[name.id] += 1
            self.expected[name.id] += 1

    @rule(which=number)
    def rm(self, which: int) -> None:
        files = [path for path in sorted(Path(self.root).glob("*/**/*.pkl")) if layout.INTERNAL not in str(path)]
        if files:
            file = self.pick(files, which)
            name = Name.parse(file.name)
            assert name is not None
            file.unlink()
            self.expected[name.id] -= 1

    @rule(state=st.sampled_from([layout.DONE, layout.FAIL, layout.DOING]))
    def rmdir(self, state: str) -> None:
        try:
            os.rmdir(f"{self.root}/{state}")
        except OSError:
            pass

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def each_task_is_where_it_should_be(self) -> None:
        self.steps["steps"] += 1
        found = {id: len(where) for id, where in places(self.root).items()}
        assert found == +self.expected
        for id, published in self.fs.published.items():
            assert published <= 1 + self.requested[id], f"{id} was published {published} times"

    def teardown(self) -> None:
        try:
            self.rescue()
        finally:
            shutil.rmtree(self.base)
        self.steps["examples"] += 1
        for what in ("published", "requested"):
            self.steps[what] += sum((self.fs.published if what == "published" else self.requested).values())

    def rescue(self) -> None:
        """All are dead; a new runner brings each task to an end."""
        folder = with_lease(make(self.root, "none", self.fs), 0)
        last = Membership(folder, "rescue")
        last.register()
        for _ in range(5):
            last.watch()
            for name in folder.names(layout.TODO):
                mine = folder.claim(name, "rescue")
                assert mine is not None
                write(self.fs, f"doing/rescue/{mine}", mine, "rescue")
                assert folder.commit(mine, "rescue", layout.DONE)
        last.leave()
        self.each_task_is_where_it_should_be()
        for left in (layout.TODO, layout.DOING, layout.HB):
            assert os.listdir(f"{self.root}/{left}") == []
        for state in (layout.DONE, layout.FAIL):
            for name in folder.names(state):
                check_result(FileOps(self.root), state, name)

    # -- small helpers ---------------------------------------------------------------------

    def awake(self) -> list[str]:
        return sorted(set(self.runners) - self.asleep)

    def busy(self) -> list[str]:
        return [runner for runner in self.awake() if self.held[runner]]

    def pick(self, among: list[Any], which: int) -> Any:
        return among[which % len(among)]

    def take(self, who: int, which: int) -> tuple[str, Name]:
        runner = self.pick(self.busy(), who)
        mine = self.pick(self.held[runner], which)
        self.held[runner].remove(mine)
        return runner, mine

    def forget(self, runner: str) -> None:
        del self.runners[runner], self.held[runner]
        self.asleep.discard(runner)

    def movable(self, state: str) -> list[Name]:
        return [name for name in self.folder.names(state) if not os.path.exists(f"{self.root}/todo/{name}")]


def explore(examples: int, *phases: Phase) -> Counter[str]:
    TaskListMachine.steps.clear()
    run_state_machine_as_test(TaskListMachine, settings=settings(
        max_examples=examples, stateful_step_count=40, deadline=None, derandomize=True, database=None,
        phases=phases or tuple(Phase), report_multiple_bugs=False, suppress_health_check=list(HealthCheck)))
    return TaskListMachine.steps


def try_any_order(examples: int, tried: Tried) -> None:
    for what, count in explore(examples).items():
        tried(f"state machine: {what}", count)


def test_any_order(tried: Tried) -> None:
    try_any_order(60, tried)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_order_for_longer(tried: Tried) -> None:
    try_any_order(600, tried)


@pytest.mark.parametrize("mutant", ["drain publishes what is not complete", "drain without rmdir"])
def test_a_broken_rule_is_noticed(mutant: str) -> None:
    with mock.patch.object(*MUTANTS[mutant]), pytest.raises((AssertionError, Violation)):
        explore(100, Phase.generate)

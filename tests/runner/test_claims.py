"""Which task a runner takes next, if not every task fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runforrest import Command, TaskList
from runforrest.folder import layout, settings, tokens
from runforrest.folder.fsio import FileOps
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.window import SMALLEST
from runforrest.model.resources import Budget, Capacity, Needs
from runforrest.runner import Options, claims
from runforrest.runner.claims import Claims

MANY = SMALLEST + 300              # more than a runner looks at, at once
BIG, PLAIN, HALF, LICENSED = {"cores": 3}, dict[str, Any](), {"cores": 0.5}, {"tokens": {"license": 1}}


class Taking:
    """A runner's claims, with nothing else of the runner.

    kinds  what the tasks of the list need, in their order; a task is named by its kind's number
    """

    def __init__(self, directory: Path, kinds: list[dict[str, Any]], cores: float = 2.0, licenses: int = 0) -> None:
        tasks = TaskList(directory, durability="none", tokens={"license": licenses} if licenses else None)
        for needs in kinds:
            tasks.schedule(Command("true"), name=str(needs), **needs)
        self.fs = FileOps(directory)
        self.folder = TaskFolder(self.fs, settings.open_list(self.fs))
        self.fs.mkdir(f"{layout.DOING}/R")
        self.budget = Budget(Capacity(cores))
        self.claims = Claims(self.folder, "R", Options(4), self.budget, print, None, None)
        self.slots = 0

    def next(self) -> str | None:
        """Take a task and have it run for ever; what it needs, as text."""
        found = self.claims.next(False)
        if found is None:
            return None
        self.slots += 1
        self.budget.take(self.slots, found[1])
        return str(found[1].to_json())


@pytest.mark.parametrize("first, licenses", [(BIG, 0), ({"gpus": 1}, 0), (LICENSED, 1)])
def test_what_comes_behind_many_that_do_not_fit(tasklist_dir: Path, first: dict[str, Any], licenses: int) -> None:
    """It is found, also while something runs, and then it is told that the others are left."""
    taking = Taking(tasklist_dir, [first] * MANY + [PLAIN] * 2, licenses=licenses)
    if licenses:
        tokens.take(taking.fs, "another", {"license": 1})
    assert [taking.next(), taking.next(), taking.next()] == ["{}", "{}", None]
    for slot in (1, 2):
        taking.budget.give_back(slot)
    assert taking.next() is None
    assert bool(taking.claims.unfit) is not bool(licenses)
    assert len(taking.fs.entries(layout.TODO)) == MANY


@pytest.mark.parametrize("big, small", [(PLAIN, HALF), ({"cores": 2}, PLAIN)])
def test_a_task_is_not_passed_for_ever(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch, big: dict[str, Any],
                                       small: dict[str, Any]) -> None:
    """Also one that needs what every task does."""
    taking = Taking(tasklist_dir, [big, *[small] * 5], cores=big.get("cores", 1))
    taking.budget.take(0, Needs(**small))
    assert taking.next() == str(small), "it may be passed"
    taking.budget.give_back(1)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.0)
    assert taking.next() is None and taking.next() is None
    taking.budget.give_back(0)
    assert taking.next() == str(big)


def test_many_that_wait_for_one_token_cost_no_more_than_one(tasklist_dir: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    taking = Taking(tasklist_dir, [LICENSED] * 50, licenses=1)
    looks = list[str]()
    real = tokens.take

    def take(fs: FileOps, runner: str, wanted: dict[str, int]) -> list[str] | None:
        looks.append(runner)
        return real(fs, runner, wanted)

    monkeypatch.setattr(tokens, "take", take)
    assert taking.next() == str(LICENSED) and len(looks) == 1
    assert taking.next() is None and len(looks) == 2
    taking.claims.give_back(set())
    taking.budget.give_back(1)
    assert taking.next() == str(LICENSED) and len(looks) == 3


def test_tokens_of_a_task_that_another_has_taken_are_given_back(tasklist_dir: Path) -> None:
    taking = Taking(tasklist_dir, [LICENSED] * 2, licenses=1)
    taking.claims._list(further=False)
    for name in taking.fs.entries(layout.TODO):
        taking.fs.unlink(f"{layout.TODO}/{name}")
    assert taking.next() is None
    assert tokens.look(taking.fs)["license"].free == 1 and not taking.claims.tokens

"""The protocol under a seeded nemesis; and whether the simulation would notice a broken rule.

``RUNFORREST_SEEDS=50000`` (and ``RUNFORREST_FIRST_SEED``) for a long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .simulation import MUTANTS, one_run, seeds_until_noticed, several

Tried = Callable[[str, int], None]

FIRST = int(os.environ.get("RUNFORREST_FIRST_SEED", "0"))
FEW, SEEDS = 150, int(os.environ.get("RUNFORREST_SEEDS", "3000"))
MOST = 400                         # seeds until a mutant must be noticed


def simulate(first: int, seeds: int, folder: Path, tried: Tried) -> None:
    total = several(first, seeds, folder)
    print(f"simulated {seeds} seeds from {first}: "
          + ", ".join(f"{count} {what}" for what, count in sorted(total.items())))
    tried("seeds of the simulation", seeds)
    for what in ("kill", "mv", "replays", "false ENOENT", "take-overs", "found themselves declared dead"):
        assert total[what] > seeds / 100, f"hardly any {what}: does the simulation still try what it should?"
        tried(f"simulated: {what}", total[what])
    tried("simulated: file operations", total["operations"])


def test_any_schedule_of_accidents(quick_folder: Path, tried: Tried) -> None:
    simulate(FIRST, FEW, quick_folder, tried)


@pytest.mark.slow
@pytest.mark.timeout(300 + SEEDS // 4)
def test_any_schedule_of_accidents_thousands_of_times(quick_folder: Path, tried: Tried) -> None:
    simulate(FIRST + FEW, SEEDS, quick_folder, tried)


def test_a_seed_fixes_the_run(quick_folder: Path) -> None:
    assert one_run(7, quick_folder) == one_run(7, quick_folder)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_noticed(quick_folder: Path, mutant: str, tried: Tried) -> None:
    found = seeds_until_noticed(mutant, MOST, quick_folder)
    assert found is not None, f"{mutant}: not noticed in {MOST} seeds"
    print(f"{mutant}: seed {found[0]}: {found[1]}")
    tried("rules of the protocol broken on purpose, and noticed by the simulation", 1)

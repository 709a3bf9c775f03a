"""The protocol under a seeded nemesis; and whether the simulation would notice a broken rule.

``RUNFORREST_SEEDS=5000`` (and ``RUNFORREST_FIRST_SEED``) for a long run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .simulation import MUTANTS, one_run, seeds_until_noticed, several

FIRST = int(os.environ.get("RUNFORREST_FIRST_SEED", "0"))
SEEDS = int(os.environ.get("RUNFORREST_SEEDS", "240"))
MOST = 400                         # seeds until a mutant must be noticed


@pytest.mark.timeout(60 + SEEDS)
def test_any_schedule_of_accidents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = several(FIRST, SEEDS, tmp_path)
    with capsys.disabled():
        print(f"\nsimulated {SEEDS} seeds from {FIRST}: "
              + ", ".join(f"{count} {what}" for what, count in sorted(total.items())))
    for what in ("kill", "mv", "replays", "false ENOENT", "take-overs", "found themselves declared dead"):
        assert total[what] > SEEDS / 100, f"hardly any {what}: does the simulation still try what it should?"
    assert total["replays that had an effect"] == 0


def test_a_seed_fixes_the_run(tmp_path: Path) -> None:
    assert one_run(7, tmp_path) == one_run(7, tmp_path)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_noticed(tmp_path: Path, mutant: str) -> None:
    found = seeds_until_noticed(mutant, MOST, tmp_path)
    assert found is not None, f"{mutant}: not noticed in {MOST} seeds"
    print(f"{mutant}: seed {found[0]}: {found[1]}")

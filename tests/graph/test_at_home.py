"""What a program gets back is of its own classes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.programs import ROOT, environment

PROGRAM = Path(__file__).with_name("home_program.py")


def test_results_are_of_the_classes_of_the_program(tasklist_dir: Path, tried: Callable[[str, int], None]) -> None:
    """``except`` catches its exceptions, enum members are the very same, and no class of it is changed."""
    ended = subprocess.run([sys.executable, PROGRAM, tasklist_dir], env=environment(), cwd=ROOT, text=True,
                           capture_output=True, timeout=90)
    assert ended.returncode == 0, ended.stderr
    found = eval(ended.stdout)
    assert [name for name, own in found if not own] == [] and len(found) == 9
    tried("kinds of classes of the main program that came back as its own", len(found))

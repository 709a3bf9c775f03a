"""Kernels before 5.3, and macOS: guards wake by SIGCHLD then.  Processes that lack `os.pidfd_open`, for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runforrest import TaskList, defer
from tests.process.test_endings import alive, family_of
from tests.tasks import close_everything, leave_family, segfault, start_family

SITE = """
import os
if hasattr(os, "pidfd_open"):
    del os.pidfd_open
"""


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_endings(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    tasks, hung, left = TaskList(tasklist_dir), tmp_path / "hung", tmp_path / "left"
    tasks.schedule(defer(_has_pidfds))
    tasks.schedule(defer(segfault), crash_limit=1)
    tasks.schedule(defer(close_everything))
    tasks.schedule(defer(start_family, str(hung), True), timeout=2.0, grace=0.1)
    tasks.schedule(defer(leave_family, str(left)))
    tasks.schedule(defer(abs, -1))
    done = list(tasks.run(2, ordered=True, isolation=isolation, print_output=False))
    assert [t.attempts[-1].outcome for t in done] == ["returned", "crashed", "returned", "timed_out",
                                                      "returned", "returned"]
    assert done[0].returnvalue is False, "the fork server has pidfds: nothing was tested"
    assert len(family_of(hung)) == 5 and not [pid for pid in family_of(hung) + family_of(left) if alive(pid)]


def _has_pidfds() -> bool:
    return hasattr(os, "pidfd_open")

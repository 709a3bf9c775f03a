"""Hosts that are given back, by a real command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runforrest.engines import Place, Retirement, slurm, starts
from runforrest.engines.slurm import Allocation

COMMAND = 'echo "$NODES|$RETCODES|$ACTIVE|$RETIRED|${DRIVER_NODE-none}" >>retired'


def calls(folder: Path) -> list[str]:
    file = folder / "retired"
    return file.read_text().splitlines() if file.exists() else []


def test_one_by_one(tmp_path: Path) -> None:
    retirement = Retirement(f"cd '{tmp_path}'; {COMMAND}", ["a", "b", "c"])
    retirement.poll()
    for node, code in (("b", 0), ("a", 4), ("c", -9)):
        retirement.add(node, code)
        retirement.poll()
        retirement.poll()
    retirement.close()
    assert calls(tmp_path) == ["b|0|a,c|b|none", "a|4|c|b,a|none", "c|-9||b,a,c|none"]


def test_together_when_it_is_quiet_and_at_the_end(tmp_path: Path) -> None:
    retirement = Retirement(f"cd '{tmp_path}'; {COMMAND}", ["a", "b", "c"], driver="a", quiet=1000.0)
    retirement.add("c", 0)
    retirement.poll()
    assert calls(tmp_path) == []
    retirement.quiet = 0.0
    retirement.add("a", 1)
    retirement.poll()
    retirement.add("b", 0)
    retirement.close()
    assert calls(tmp_path) == ["c,a|0,1|b|c,a|a", "b|0||c,a,b|a"]


def test_not_at_the_end_and_not_at_all(tmp_path: Path) -> None:
    for command, at_end in ((f"cd '{tmp_path}'; {COMMAND}", False), ("", True)):
        retirement = Retirement(command, ["a"], at_end=at_end, quiet=60)
        retirement.add("a", 0)
        retirement.poll()
        retirement.close()
    assert calls(tmp_path) == []


def test_a_command_that_fails_is_told() -> None:
    said: list[str] = []
    retirement = Retirement("echo no such job >&2; exit 3", ["a", "b"], warn=said.append)
    retirement.add("a", 0)
    retirement.poll()
    assert said == ["giving back a: exit code 3 of echo no such job >&2; exit 3: no such job"]


def test_slurm_is_asked_again_if_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two hosts are given back one soon after the other; what it refuses for good is told."""
    said: list[str] = []
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/retired\n[ $(wc -l <{tmp_path}/retired) = 2 ] && exit\n'
                       'echo "Job update not available right now, try again in a bit" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job, begun = Allocation("7", (), "", None, None), starts([Place(node, 1, 1, 1) for node in "abc"], "L", "p", "x")
    retirement = slurm.retirement(job, begun, warn=said.append)
    retirement.quiet = 0.0
    retirement.add("b", 0)
    retirement.poll()
    assert calls(tmp_path) == ["update JobId=7 NodeList=a,c"] * 2 and not said
    program.write_text('#!/bin/sh\necho no such job >&2; exit 1\n')
    retirement.add("a", 0)
    retirement.poll()
    assert len(said) == 1 and said[0].startswith("giving back a: exit code 1 of ") and said[0].endswith(": no such job")

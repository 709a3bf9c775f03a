"""When a runner must be gone: what people write, and what Slurm says."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from runforrest.errors import InvalidArgument
from runforrest.runner import walltime

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize("text, seconds", [
    ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1h30m", 5400), ("1 d 2 h", 93600), ("1:30", 90),
    ("1:00:00", 3600), ("2-03:00:00", 183600), (" 10m ", 600)])
def test_durations(text: str, seconds: float) -> None:
    assert walltime.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "1:2:3:4", "5 apples", "1h 5"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"duration|no time is left"):
        walltime.parse_duration(text)


@pytest.mark.parametrize("text, seconds", [
    ("12:30", 1800), ("18:30:05", 23405), ("11:00", 82800), ("2026-11-22T13:00", 3600),
    ("2026-11-22 12:00:01", 1), ("2026-11-22T11:30:00Z", 1800), ("2026-11-22T12:30+01:00", 1800)])
def test_times(text: str, seconds: float) -> None:
    assert walltime.seconds_until(text, NOON) == seconds


@pytest.mark.parametrize("text", ["25:00", "tomorrow", "2026-11-22T11:59", ""])
def test_what_is_not_a_time_to_come(text: str) -> None:
    with pytest.raises(InvalidArgument):
        walltime.seconds_until(text, NOON)


def test_not_both_and_none_at_all() -> None:
    with pytest.raises(InvalidArgument, match="not both"):
        walltime.seconds_left("12:00", "5m", {})
    assert walltime.seconds_left(None, None, {}) is None
    assert walltime.seconds_left(None, "none", {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "99999999999"}) is None


def test_slurm_is_asked_and_else_the_environment(tmp_path: Path) -> None:
    """`tests/hosts` asks a real one; here a program of that name says what it was seen to say."""
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\ncase $3 in 17) echo 23 0:01; echo 17 1-00:00:10;; 19) echo 19 0:00;; '
                      '20) echo 20 INVALID;; 21) echo 21 UNLIMITED;; '
                      '*) echo "slurm_load_jobs error" >&2; exit 1;; esac\n')
    squeue.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert walltime.of_slurm_job({**path, "SLURM_JOB_ID": "17"}) == 86410
    assert walltime.of_slurm_job({**path, "SLURM_JOB_ID": "18"}) is None
    end = str(int(datetime.now().timestamp()) + 100)
    left = walltime.of_slurm_job({**path, "SLURM_JOB_ID": "18", "SLURM_JOB_END_TIME": end})
    assert left is not None and 90 < left <= 100
    assert walltime.of_slurm_job({**path, "SLURM_JOB_ID": "18", "SLURM_JOB_END_TIME": "1000"}) == walltime.OVER
    for job, left in (("19", walltime.OVER), ("20", walltime.OVER), ("21", None)):
        assert walltime.of_slurm_job({**path, "SLURM_JOB_ID": job, "SLURM_JOB_END_TIME": end}) == left
    assert walltime.of_slurm_job({**path}) is None

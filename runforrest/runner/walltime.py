"""When a runner must be gone: as it was told, or as the Slurm job that it runs in ends."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta

from runforrest.errors import InvalidArgument

SQUEUE_SECONDS = 20.0
ENDLESS = ("unlimited", "none", "")
OVER, OVER_ANSWERS = 1.0, ("0:00", "invalid")      # seconds: nothing can be started in them; what squeue says then
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SLURM = re.compile(r"(?:(?P<d>\d+)-)?(?:(?:(?P<h>\d+):)?(?P<m>\d+):)?(?P<s>\d+)")
_WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def seconds_left(until: str | None, time_left: str | None, environment: Mapping[str, str] = os.environ
                 ) -> float | None:
    """Seconds until the runner must be gone, or None.

    until      a time of day (``18:30``, the next one) or a date and time in ISO 8601, local unless it says else
    time_left  seconds, ``90m``, ``1h30m``, or as Slurm writes it, ``[DAYS-][HOURS:]MINUTES:SECONDS``; 'none'
               for no end, even in a Slurm job

    Without both, the end of the Slurm job that ``environment`` speaks of.  Raises InvalidArgument.
    """
    if until is not None and time_left is not None:
        raise InvalidArgument("either --until or --time-left, not both", argument="until")
    if time_left is not None:
        return None if time_left.strip().lower() in ENDLESS else parse_duration(time_left)
    if until is not None:
        return seconds_until(until, datetime.now().astimezone())
    return of_slurm_job(environment)


def parse_duration(text: str) -> float:
    """Seconds in a text as for ``time_left``; raises InvalidArgument."""
    cleaned = text.strip().lower()
    parts = _WORDS.findall(cleaned)
    slurm = _SLURM.fullmatch(cleaned)
    if parts and _WORDS.sub("", cleaned).strip() == "":
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif slurm:
        seconds = sum(int(slurm[unit] or 0) * _UNITS[unit] for unit in _UNITS)
    else:
        raise InvalidArgument(f"{text!r} is not a duration, as 5400, 90m, 1h30m or 1:30:00", argument="time_left")
    if seconds <= 0:
        raise InvalidArgument(f"{text!r}: no time is left", argument="time_left")
    return float(seconds)


def seconds_until(text: str, now: datetime) -> float:
    """Seconds from ``now`` (with its zone) to the time in the text; raises InvalidArgument."""
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text.strip()):
            hours, minutes, *rest = map(int, text.split(":"))
            end = now.replace(hour=hours, minute=minutes, second=rest[0] if rest else 0, microsecond=0)
            end += timedelta(days=end <= now)
        else:
            end = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
            end = end if end.tzinfo else end.replace(tzinfo=now.tzinfo)
    except ValueError:
        raise InvalidArgument(f"{text!r} is not a time, as 18:30 or 2026-11-22T18:30", argument="until") from None
    if end <= now:
        raise InvalidArgument(f"{text} is over", argument="until")
    return (end - now).total_seconds()


def of_slurm_job(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds until the Slurm job that we are in ends; None outside of one, or if it has no limit.

    Slurm itself is asked (``squeue -o '%A %L'``), as a limit may have been changed since the job began.  A job whose
    time is over already has a second left, so that its runner leaves.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        return None
    try:
        answer = subprocess.run(["squeue", "-h", "-j", job, "-o", "%A %L"], env=dict(environment), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                timeout=SQUEUE_SECONDS).stdout
        left = dict(line.split()[:2] for line in answer.splitlines())[job].lower()      # of an array, there are more
        return None if left in ENDLESS else OVER if left in OVER_ANSWERS else parse_duration(left)
    except (OSError, subprocess.SubprocessError, KeyError, ValueError, InvalidArgument):
        return _by_environment(environment)


def _by_environment(environment: Mapping[str, str]) -> float | None:
    """What the job was told when it began; newer Slurms say it."""
    end = environment.get("SLURM_JOB_END_TIME", "")
    return max(OVER, int(end) - datetime.now().timestamp()) if end.isdigit() else None

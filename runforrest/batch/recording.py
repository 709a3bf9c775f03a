"""What the status file says of a task, by the record of its last attempt."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from typing import Any

from runforrest.batch.directives import TaskLine
from runforrest.batch.ends import End
from runforrest.batch.statusfile import LOST, NEVER_STARTED, TASK, StatusLine, written
from runforrest.folder import layout
from runforrest.model import outcomes

NOT_STARTED = 200                  # disBatch's return code for a command that could not be started
UNNAMED = "signal "                # and its number: a signal that has no name, in records


def status_line(item: TaskLine, end: End) -> StatusLine:
    """The status file's record of a task's last attempt."""
    record = end.record
    started = _seconds(record.get("started") or record.get("ended"))
    pid = record.get("pid")
    return StatusLine(
        TASK, item.task, item.line, item.repeat, str(record.get("host") or ""), NEVER_STARTED if pid is None else pid,
        _code(end.state, record), started, started + float(record.get("duration") or 0.0),
        int(record.get("output_bytes") or 0), str(record.get("stdout") or ""),
        int(record.get("errors_bytes") or 0), str(record.get("stderr") or ""), written(item.command))


def _code(state: str, record: dict[str, Any]) -> int:
    """disBatch's return code: the exit code, or minus the number of the signal."""
    if record.get("exit_code") is not None:
        return int(record["exit_code"])
    name = str(record.get("signal") or "")
    if name in signal.Signals.__members__:
        return -int(signal.Signals[name])
    if name.startswith(UNNAMED):
        return -int(name.removeprefix(UNNAMED))
    if record.get("outcome") == outcomes.LOST:
        return LOST
    return 0 if state == layout.DONE else NOT_STARTED


def _seconds(text: object) -> float:
    """An ISO time as seconds since 1970; now, if there is none."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return time.time()

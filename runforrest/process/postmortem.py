"""The record of an attempt that ended without a word, written by the guard for its dead child."""

from __future__ import annotations

import os
import signal
import time

from runforrest.folder import attempts, layout
from runforrest.folder.stored import StoredTask
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.process import system
from runforrest.process.child import RETRY_SECONDS
from runforrest.process.claimed import fault, iso, report_header, report_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.folder.fsio import FileOps
    from runforrest.model.names import Name
    from runforrest.process.config import Config
    from runforrest.process.output import Output
    from runforrest.process.supervisor import Ended
    from runforrest.process.waiting import Waiter


class PostMortem:
    """Finds out why children of one slot died, and writes it into their tasks' files."""

    def __init__(self, config: Config, fs: FileOps, output: Output, waiter: Waiter) -> None:
        self.config, self.fs, self.output, self.waiter = config, fs, output, waiter
        self._oom_kills = system.oom_kills()

    def write(self, path: str, name: Name, begun: float, ended: Ended) -> bytes:
        """Write the record, unless the child's own is there after all; returns the report."""
        try:
            fd = self.fs.open_read(path)
            try:
                task = StoredTask.read(fd, name)
            finally:
                os.close(fd)
        except OSError as error:
            return fault(name, path, error)
        if name.lost:                   # then its own record is in tries/
            task.add_side_records(self.fs)
        written = task.result()
        if written is not None and written.get("outcome") != outcomes.LOST:     # killed before its word to us
            task.attempts.remove(written)
            short = {k: v for k, v in written.items() if k not in ("message", "traceback", "output")}
            return report_header(task) + report_line(short)[1:]
        record = self._record(name, begun, ended)
        words: dict[str, Any] = {"message": self._explain(record, task)}
        words.update(self.output.collect())
        log = self.output.log_name(name, layout.FAIL)
        if log:
            record["log"] = log
        while True:
            try:
                attempts.write_attempt(self.fs, path, name, {**record, **words}, b"", self.config.force, task.end,
                                       later=True)
                return report_header(task) + report_line(record)[1:]
            except attempts.TakenOver:
                return report_line({"name": str(name), "gone": True})
            except OSError as error:
                if error.errno not in attempts.WAITED_OUT:
                    return fault(name, path, error)
                if any(order.startswith(b"release") for order in self.waiter.wait(RETRY_SECONDS)):
                    return report_line({"name": str(name), "released": True})

    def _record(self, name: Name, begun: float, ended: Ended) -> dict[str, Any]:
        status, usage = ended.status, ended.usage
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        duration = time.monotonic() - begun
        return {"frame": "attempt", "attempt": name.attempt, "number": name.tries,
                "outcome": ended.reason or self._why(signum), "runner": self.config.runner, "host": self.config.host,
                "pid": ended.pid, "started": iso(time.time() - duration), "ended": iso(time.time()),
                "duration": duration,
                "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                "signal": _signal_name(signum), "cpu": usage.ru_utime + usage.ru_stime,
                "peak_bytes": usage.ru_maxrss * (1024 if system.LINUX else 1)}

    def _why(self, signum: int | None) -> str:
        """crashed, or out_of_memory if the kernel has killed a process for memory meanwhile."""
        if signum == signal.SIGKILL:
            before, self._oom_kills = self._oom_kills, system.oom_kills()
            if self._oom_kills > before:
                return outcomes.OUT_OF_MEMORY
        return outcomes.CRASHED

    def _explain(self, record: dict[str, Any], task: StoredTask) -> str:
        limits = Limits.from_json(task.envelope.get("limits")).or_else(self.config.limits)
        outcome = record["outcome"]
        if outcome == outcomes.TIMED_OUT:
            return f"ran longer than its timeout of {limits.timeout:g} s and was killed"
        if outcome == outcomes.OUT_OF_MEMORY and limits.memory is not None:
            return f"held more memory than its limit of {limits.memory} bytes and was killed"
        if outcome == outcomes.OUT_OF_MEMORY:
            return "killed by the system, which had run out of memory"
        if outcome == outcomes.CANCELLED:
            return "cancelled"
        if record["signal"] is not None:
            return f"killed by {record['signal']}; the end of its output may say more"
        return f"its process ended with exit code {record['exit_code']} before it returned"


def _signal_name(signum: int | None) -> str | None:
    try:
        return None if signum is None else signal.Signals(signum).name
    except ValueError:                  # a real-time signal
        return f"signal {signum}"

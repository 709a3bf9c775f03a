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
from runforrest.process.execution import ending, snippet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.folder.fsio import FileOps
    from runforrest.model.names import Name
    from runforrest.process.claimed import Claimed
    from runforrest.process.config import Config
    from runforrest.process.output import Output
    from runforrest.process.supervisor import Ended
    from runforrest.process.waiting import Waiter


class PostMortem:
    """Finds out how children of one slot ended that could not tell, and writes it into their tasks' files."""

    def __init__(self, config: Config, fs: FileOps, output: Output, errors: Output, waiter: Waiter) -> None:
        self.config, self.fs, self.output, self.errors, self.waiter = config, fs, output, errors, waiter
        self._oom_counter = system.oom_counter()
        self._oom_kills = system.oom_kills(self._oom_counter)

    def write(self, path: str, name: Name, begun: float, ended: Ended, command: Claimed | None = None) -> bytes:
        """Write the record, unless the child's own is there after all; returns the report.

        command  the task, if it became bash, which writes none
        """
        if command:
            task, header = command.task, command.header
        else:
            try:
                task = self._read(path, name)
            except OSError as error:
                return fault(name, path, error)
            written = task.result()
            if written is not None and written.get("outcome") != outcomes.LOST:     # killed before its word to us
                task.attempts.remove(written)
                short = {k: v for k, v in written.items() if k not in ("message", "traceback", "output")}
                return report_header(task) + report_line(short)[1:]
            header = report_header(task)
        record = self._record(name, begun, ended)
        words: dict[str, Any] = {}
        payload = b""
        if command and record["outcome"] == outcomes.CRASHED:       # bash itself has ended, which is no crash
            code = -os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else os.WEXITSTATUS(ended.status)
            found, words, payload = ending(command.command, code)
            record.update(found, runtime=record["duration"])
        else:
            words["message"] = self._explain(record, task)
        words.update(self.output.collect())
        state = layout.DONE if record["outcome"] == outcomes.RETURNED else layout.FAIL
        log = self.output.log_name(name, state)
        if log:
            record["log"] = log
        if command:
            self._add_streams(record, words, name, state)
        while True:
            try:
                attempts.write_attempt(self.fs, path, name, {**record, **words}, payload, cut=task.end)
                return header + report_line(record)[1:]
            except attempts.TakenOver:
                return report_line({"name": str(name), "gone": True})
            except OSError as error:
                if error.errno not in attempts.WAITED_OUT:
                    return fault(name, path, error)
                if any(order.startswith(b"release") for order in self.waiter.wait(RETRY_SECONDS)):
                    return report_line({"name": str(name), "released": True})

    def _read(self, path: str, name: Name) -> StoredTask:
        fd = self.fs.open_read(path)
        try:
            task = StoredTask.read(fd, name)
        finally:
            os.close(fd)
        if name.lost or task.renamed:   # then its own record is in tries/
            task.add_side_records(self.fs)
        return task

    def _add_streams(self, record: dict[str, Any], words: dict[str, Any], name: Name, state: str) -> None:
        """A command's two outputs, each with its beginning and end, also for who does not read the task's file."""
        for output, stream, text in ((self.output, "stdout", "output"), (self.errors, "stderr", "errors")):
            size = output.size()
            if size:
                record[stream], record[f"{text}_bytes"] = snippet(output), size
        words.update(self.errors.collect("errors"))
        log = self.errors.log_name(name, state)
        if log:
            record["errors_log"] = log

    def _record(self, name: Name, begun: float, ended: Ended) -> dict[str, Any]:
        status, usage = ended.status, ended.usage
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        duration = time.monotonic() - begun
        return {"frame": "attempt", "attempt": name.attempt, "number": name.tries,
                "outcome": ended.reason or self._why(signum), "runner": self.config.runner, "host": self.config.host,
                "pid": ended.pid, "started": iso(time.time() - duration), "ended": iso(time.time()),
                "runtime": None, "duration": duration,
                "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                "signal": _signal_name(signum), "cpu": usage.ru_utime + usage.ru_stime,
                "peak_bytes": max(usage.ru_maxrss * (1024 if system.LINUX else 1), ended.held)}

    def _why(self, signum: int | None) -> str:
        """crashed, or out_of_memory if the kernel has killed a process for memory meanwhile."""
        if signum == signal.SIGKILL:
            before, self._oom_kills = self._oom_kills, system.oom_kills(self._oom_counter)
            if self._oom_kills > before:
                return outcomes.OUT_OF_MEMORY
        return outcomes.CRASHED

    def _explain(self, record: dict[str, Any], task: StoredTask) -> str:
        limits = Limits.from_json(task.envelope.get("limits")).or_else(self.config.limits)
        outcome = record["outcome"]
        if outcome == outcomes.TIMED_OUT:
            return f"ran longer than its timeout of {limits.timeout:g} s and was killed"
        if outcome == outcomes.OUT_OF_MEMORY and limits.memory is not None:
            held = record["peak_bytes"]
            return f"held {held} bytes of memory, more than its limit of {limits.memory}, and was killed"
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

"""The child: the process that runs a user's task, and writes how it ended into the task's file."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time

from runforrest import errors, graph
from runforrest.folder import attempts, layout
from runforrest.model import outcomes
from runforrest.process import page as pages
from runforrest.process import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.folder.fsio import FileOps
    from runforrest.folder.stored import StoredTask
    from runforrest.process.config import Config
    from runforrest.process.output import Output
    from runforrest.process.page import Page

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLOSE_UPTO = 1024
RETRY_SECONDS = 1.0                 # between two tries to write a result to a full disk


def become_child(guard: int, keep: tuple[int, ...] = ()) -> None:
    """After the fork: a session of its own, no signal handler and no descriptor of the guard's."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_DFL)
    os.setsid()
    system.die_with_parent(guard, signal.SIGKILL)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, CLOSE_UPTO)
    if "numpy.random" in sys.modules:       # else every fork would draw the same numbers
        sys.modules["numpy.random"].seed()


class Child:
    """Runs attempts in this process."""

    def __init__(self, config: Config, fs: FileOps, output: Output, page: Page) -> None:
        self.config, self.fs, self.output, self.page = config, fs, output, page
        self.pid = os.getpid()

    def attempt(self, path: str, task: StoredTask, call: bytes | None, problem: str = "") -> dict[str, Any]:
        """Run one attempt and write its frame.  Returns the summary, which is on the page as well.

        path     the claimed file; ``call``: the pickle in it, or None with ``problem`` saying why not
        """
        started = time.time()
        begun = time.monotonic()
        usage = _usage()
        record: dict[str, Any] = {
            "frame": "attempt", "attempt": task.name.attempt, "number": task.name.tries, "outcome": "",
            "runner": self.config.runner, "host": self.config.host, "pid": self.pid, "started": _iso(started)}
        try:
            payload = self._load_and_run(task, call, problem, record)
        except errors.Unloadable as error:
            payload = self._failed(record, outcomes.UNLOADABLE, error)
        self.page.state = pages.WRITING
        self._write(path, task, record, payload, begun, usage)
        summary = {k: v for k, v in record.items() if k not in ("traceback", "output", "frame")}
        summary["counts"] = _count(task.counts(), record["outcome"])
        summary["limits"] = task.envelope.get("limits") or {}
        self.page.complete(summary)
        return summary

    # -- before --------------------------------------------------------------------------

    def _load_and_run(self, task: StoredTask, call: bytes | None, problem: str, record: dict[str, Any]) -> bytes:
        if call is None:
            raise errors.Unloadable(problem)
        _check_loadable(task.envelope)
        try:
            self._enter(task)
        except OSError as error:                        # the working directory that was asked for
            return self._failed(record, outcomes.RAISED, error)
        try:
            deferred = pickle.loads(call)
        except MemoryError as error:
            return self._failed(record, outcomes.OUT_OF_MEMORY, error)
        except BaseException as error:
            self._stop_if_stray()
            raise _unloadable(error) from error
        return self._evaluate(deferred, record)

    def _enter(self, task: StoredTask) -> None:
        """The task's import path, working directory and environment."""
        envelope = task.envelope
        path = envelope.get("path")
        if path and path != sys.path:
            sys.path[:] = path + [p for p in self.config.path if p not in path]
        directory = envelope.get("cwd")
        if envelope.get("chdir"):                       # asked for: must exist
            os.chdir(envelope["chdir"])
        elif directory:
            try:
                os.chdir(directory)
            except OSError:                             # scheduled on another host
                pass
        environ = os.environ
        for key, value in (envelope.get("env") or {}).items():
            if value is None:
                environ.pop(key, None)
            else:
                environ[key] = value
        environ["RUNFORREST_TASK"] = task.name.id
        environ["RUNFORREST_ATTEMPT"] = task.name.attempt
        environ["RUNFORREST_DIR"] = self.config.root

    # -- the call ------------------------------------------------------------------------

    def _evaluate(self, deferred: object, record: dict[str, Any]) -> bytes:
        """Evaluate the call; the outcome goes into the record, the pickled value or exception is returned."""
        self.page.state = pages.RUNNING
        begun = time.perf_counter()
        try:
            value = graph.evaluate(deferred)
        except BaseException as error:
            self._stop_if_stray()
            record["runtime"] = time.perf_counter() - begun
            self.page.state = pages.WRITING
            outcome = outcomes.OUT_OF_MEMORY if isinstance(error, MemoryError) else outcomes.RAISED
            return self._failed(record, outcome, error)
        self._stop_if_stray()
        record["runtime"] = time.perf_counter() - begun
        self.page.state = pages.WRITING
        try:
            payload, _ = graph.dumps(value)
        except BaseException as error:
            return self._failed(record, outcomes.RAISED, _unpicklable_value(deferred, error))
        record["outcome"] = outcomes.RETURNED
        record["payload"] = "value"
        return payload

    def _failed(self, record: dict[str, Any], outcome: str, error: BaseException) -> bytes:
        record["outcome"] = outcome
        record["payload"] = "error"
        record["error"] = type(error).__name__
        record["message"] = _text(error)[:2000]
        record["traceback"] = traceback_text(error)
        return pickled_error(error)

    def _stop_if_stray(self) -> None:
        """A process that the task forked, and that returns from the user's code: it is not the child."""
        if os.getpid() != self.pid:
            os._exit(0)

    # -- after ---------------------------------------------------------------------------

    def _write(self, path: str, task: StoredTask, record: dict[str, Any], payload: bytes,
               begun: float, before: tuple[float, int]) -> None:
        """Append the frame; a full disk is waited out, the result is kept until then."""
        flush_output()
        while True:
            try:
                cpu, peak = _usage()
                record.update(ended=_iso(time.time()), duration=time.monotonic() - begun,
                              cpu=round(cpu - before[0], 6), peak_bytes=peak)
                record.update(self.output.collect())
                state = layout.DONE if record["outcome"] == outcomes.RETURNED else layout.FAIL
                log = self.output.log_name(task.name, state)
                if log:
                    record["log"] = log
                attempts.write_attempt(self.fs, path, task.name, record, payload, self.config.force,
                                       cut=task.end)
                return
            except OSError as error:
                if error.errno not in attempts.PASSING:
                    raise
                time.sleep(RETRY_SECONDS)


def flush_output() -> None:
    """What is still in buffers of Python and of C libraries."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass                    # the task closed it
    system.flush_c_streams()


def pickled_error(error: BaseException) -> bytes:
    """The exception pickled so that it can be loaded again: itself, or a stand-in with its name and text."""
    try:
        data, _ = graph.dumps(error)
        pickle.loads(data)
        return data
    except BaseException:
        stand_in = errors.RemoteError(f"{type(error).__name__}: {_text(error)} (the exception itself can't be pickled)",
                                      type_name=type(error).__name__)
        return pickle.dumps(stand_in)


def traceback_text(error: BaseException) -> str:
    """The traceback as the user knows it: without the frames of this library above the user's code."""
    try:
        import traceback
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            trace = trace.tb_next
        if isinstance(error, errors.AttemptError) and trace is None:
            return ""
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:           # out of memory, say, or an exception whose __str__ raises
        return f"{type(error).__name__} (its traceback could not be formatted)"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its text could not be formatted>"


def _unloadable(error: BaseException) -> errors.Unloadable:
    if isinstance(error, ModuleNotFoundError):
        hint = "; it must be importable where the runner is, too"
    elif isinstance(error, (EOFError, pickle.UnpicklingError)):
        hint = "; the file is truncated or damaged: schedule the task again"
    else:
        hint = ""
    return errors.Unloadable(f"the task can't be unpickled: {type(error).__name__}: {_text(error)}{hint}")


def _unpicklable_value(deferred: object, error: BaseException) -> BaseException:
    if isinstance(error, MemoryError):
        return error
    made = errors.UnpicklableError(f"the value returned by {graph.label(deferred)} can't be pickled: {_text(error)}")
    made.__cause__ = error
    return made


def _check_loadable(envelope: dict[str, Any]) -> None:
    """Refuse a pickle that this Python would misread: byte code differs from one minor version to the next."""
    made = str(envelope.get("python") or "")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    exact = envelope.get("serializer") == "dill"
    if made and (made.split(".")[:2] != here.split(".") if exact else made.split(".")[0] != here.split(".")[0]):
        raise errors.Unloadable(
            f"the task was pickled by Python {made}, this runner is Python {here}: start a runner with Python "
            f"{'.'.join(made.split('.')[:2])}, then `runforrest retry` it")


def _count(counts: dict[str, int], outcome: str) -> dict[str, int]:
    return {**counts, outcome: counts.get(outcome, 0) + 1}


def _usage() -> tuple[float, int]:
    """(CPU seconds, peak bytes) of this process and the children it waited for."""
    import resource
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1024 if system.LINUX else 1
    return (own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime,
            max(own.ru_maxrss, below.ru_maxrss) * scale)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"

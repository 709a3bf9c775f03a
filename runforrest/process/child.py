"""The child: the process that runs a user's task, and writes how it ended into the task's file."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time

from runforrest import errors, graph
from runforrest.folder import attempts, frames, layout
from runforrest.model import outcomes
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.waiting import PASSED_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.folder.fsio import FileOps
    from runforrest.process.claimed import Claimed
    from runforrest.process.config import Config
    from runforrest.process.output import Output
    from runforrest.process.page import Page

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLOSE_UPTO = 1024
SIGKILL = int(signal.SIGKILL)
LONGEST_TRACEBACK = 1 << 20         # characters; it must fit into a record: see `frames.MAX_RECORD`
RETRY_SECONDS = 1.0                 # between two tries to write a result to a full disk


def become_child(guard: int, handled: tuple[int, ...], keep: tuple[int, ...] = ()) -> None:
    """After the fork: a session of its own, no signal handler and no descriptor of the guard's."""
    if handled:
        signal.set_wakeup_fd(-1)
        for signum in handled:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.setsid()
    system.die_with_parent(guard, SIGKILL)
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
        self.pid = 0
        self.cpu = 0.0                          # used before this attempt
        self.ending = ""                        # outcome and what belongs to it, as JSON
        self.runtime: float | None = None
        self.words: dict[str, Any] = {}         # what may be long: for the file, not for the report

    def attempt(self, claimed: Claimed) -> None:
        """Run one attempt, write its frame, and leave the report on the page."""
        self.pid = os.getpid()
        self.runtime = None
        self.words = {}
        if claimed.problem is not None:
            payload = self._failed(_outcome(claimed.problem), claimed.problem)
        else:
            assert claimed.call is not None
            payload = self._load_and_run(claimed.call)
        self.page.state = pages.WRITING
        self._write(claimed, payload)

    def _load_and_run(self, call: bytes) -> bytes:
        try:
            deferred = graph.loads(call)
        except MemoryError as error:
            return self._failed(outcomes.OUT_OF_MEMORY, error)
        except BaseException as error:
            self._stop_if_stray()
            return self._failed(outcomes.UNLOADABLE, _unloadable(error))
        return self._evaluate(deferred)

    # -- the call ------------------------------------------------------------------------

    def _evaluate(self, deferred: object) -> bytes:
        """Evaluate the call; returns the pickled value or exception."""
        self.page.state = pages.RUNNING
        begun = time.perf_counter()
        try:
            value = graph.evaluate(deferred)
        except BaseException as error:
            self._stop_if_stray()
            self.runtime = time.perf_counter() - begun
            self.page.state = pages.WRITING
            outcome = outcomes.OUT_OF_MEMORY if isinstance(error, MemoryError) else outcomes.RAISED
            return self._failed(outcome, error)
        self._stop_if_stray()
        self.runtime = time.perf_counter() - begun
        self.page.state = pages.WRITING
        try:
            payload, _ = graph.dumps(value)
        except BaseException as error:
            return self._failed(outcomes.RAISED, _unpicklable_value(deferred, error))
        self.ending = '"outcome":"returned","payload":"value"'
        return payload

    def _failed(self, outcome: str, error: BaseException) -> bytes:
        kind = frames.to_json(type(error).__name__[:200])
        self.ending = f'"outcome":"{outcome}","payload":"error","error":{kind}'
        self.words.update(message=_text(error)[:2000], traceback=traceback_text(error))
        return pickled_error(error)

    def _stop_if_stray(self) -> None:
        """A process that the task forked, and that returns from the user's code: it is not the child."""
        if os.getpid() != self.pid:
            os._exit(0)

    # -- after ---------------------------------------------------------------------------

    def _write(self, claimed: Claimed, payload: bytes) -> None:
        """Append the frame; what is wrong with the folder is waited out, the result is kept until then."""
        flush_output()
        while True:
            try:
                text = self._record(claimed)
                whole = f"{text},{frames.to_json(self.words)[1:]}" if self.words else text + "}"
                attempts.write_attempt(self.fs, claimed.path, claimed.name, f"{{{whole}".encode(), payload,
                                       claimed.task.end)
                self.page.waits = 0
                self.page.complete(claimed.header + f"{text}}}\n".encode())
                return
            except OSError as error:
                if error.errno not in attempts.WAITED_OUT:
                    raise
                self.page.waits = error.errno or 0
                time.sleep(RETRY_SECONDS)

    def _record(self, claimed: Claimed) -> str:
        """The record as JSON, without the braces; put together as text, since an encoder costs a fresh fork more."""
        cpu, peak = _usage()
        used, self.cpu = cpu - self.cpu, cpu
        duration = time.monotonic() - claimed.begun
        runtime = "null" if self.runtime is None else f"{self.runtime:.9f}"
        text = (f'{claimed.record},"pid":{self.pid},{self.ending},"runtime":{runtime},'
                f'"ended":"{claimed.after(duration)}","duration":{duration:.6f},"cpu":{used:.6f},"peak_bytes":{peak}')
        printed = self.output.collect()
        if printed:
            self.words.update(printed)
            returned = '"outcome":"returned"' in self.ending
            log = self.output.log_name(claimed.name, layout.DONE if returned else layout.FAIL)
            return f'{text},"log":{frames.to_json(log)}' if log else text
        return text


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
        graph.loads(data)
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
        text = "".join(traceback.format_exception(type(error), error, trace))
        return text if len(text) <= LONGEST_TRACEBACK else f"{text[:LONGEST_TRACEBACK]}\n… and {len(text):,} in all"
    except BaseException:           # out of memory, say, or an exception whose __str__ raises
        return f"{type(error).__name__} (its traceback could not be formatted)"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its text could not be formatted>"


def _outcome(problem: BaseException) -> str:
    """How an attempt ended that could not begin."""
    if isinstance(problem, errors.Untrusted):
        return outcomes.REFUSED
    return outcomes.UNLOADABLE if isinstance(problem, errors.Unloadable) else outcomes.RAISED


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


def _usage() -> tuple[float, int]:
    """(CPU seconds, peak bytes) of this process and the children it waited for."""
    import resource
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1024 if system.LINUX else 1
    return (own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime,
            max(own.ru_maxrss, below.ru_maxrss) * scale)

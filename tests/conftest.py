"""Fixtures of all tests, and the check that the session leaves no process behind."""

from __future__ import annotations

import gc
import os
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Inherited by every program that a test starts, so that it is found wherever it has gone:
# also when its parent is dead and it has made a session of its own.
MARK = "RUNFORREST_TEST_SESSION"
os.environ[MARK] = uuid.uuid4().hex

DYING_SECONDS = 30.0

# Several tests run at the same time: that an example takes long says nothing.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

TRIED = pytest.StashKey["Counter[str]"]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes many seconds; left out by -m 'not slow'")


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """Called by a proof with what it tried and how often; the sums stand at the end of the run."""
    counts: Counter[str] = request.config.stash.setdefault(TRIED, Counter())

    def add(what: str, number: int) -> None:
        counts[what] += number
        print(f"{what}: {number}")
    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash.get(TRIED, None)
    if counts:
        terminalreporter.section("tried by the proofs")
        for what, number in sorted(counts.items()):
            terminalreporter.write_line(f"{number:>12,} {what}")


@pytest.fixture
def tasklist_dir(tmp_path: Path) -> Path:
    """A path that does not exist yet, in a folder that is this user's alone."""
    private = tmp_path / "private"
    private.mkdir()
    private.chmod(0o700)
    return private / "tasks"


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """After the last test, no process that a test has started may be alive, nor wait to be reaped."""
    before = set(psutil.Process().children(recursive=True))
    yield
    gc.collect()  # a Popen that nobody waited for is handed to subprocess, which reaps it …
    deadline = time.monotonic() + DYING_SECONDS
    while (left := _processes() - before) and time.monotonic() < deadline:
        subprocess._cleanup()  # … whenever it starts the next one, or here
        time.sleep(0.05)
    if left:
        descriptions = sorted(_describe(process) for process in left)
        for process in left:
            _kill(process)
        message = "\n  ".join(["the tests have left processes (killed now):", *descriptions])
        pytest.fail(message, pytrace=False)


def _processes() -> set[psutil.Process]:
    own = psutil.Process()
    found = set(own.children(recursive=True))
    found.update(process for process in psutil.process_iter() if _is_marked(process))
    return {process for process in found if process != own and not _is_resource_tracker(process)}


def _is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == os.environ[MARK]
    except (psutil.Error, OSError):  # gone, a zombie, or another user's
        return False


def _is_resource_tracker(process: psutil.Process) -> bool:
    """multiprocessing (and joblib) keep this one, on purpose, until the interpreter exits."""
    try:
        return any("resource_tracker" in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        text = f"{process.pid} (parent {process.ppid()}, {process.status()}): {process.name()}"
        return f"{text}: {' '.join(process.cmdline())}"
    except psutil.ZombieProcess:  # which has no command line any more
        return text
    except psutil.Error as error:
        return f"{process.pid}: {error}"


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        pass

"""Programs that use an executor, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from runforrest.futures import Executor
from tests.cli.programs import ROOT, ended, environment
from tests.helpers import wait_for

SECONDS = 60


@contextmanager
def an_executor(directory: Path, workers: int, **options: Any) -> Iterator[Executor]:
    """One that does not wait for what a test that fails has left undone."""
    executor = Executor(directory, workers, **options)
    try:
        yield executor
        executor.shutdown()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for runner in runners(directory):
            runner.terminate()


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program, to its end."""
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], env=environment(), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, cwd=ROOT)


@contextmanager
def started(program: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], env=environment(), cwd=ROOT,
                               stdin=subprocess.DEVNULL, start_new_session=True)
    with ended(process):
        yield process


def runners(directory: Path) -> list[psutil.Process]:
    """The runners of executors that are at work on this list."""
    return [process for process in psutil.process_iter() if _is_runner(process, str(directory))]


def _is_runner(process: psutil.Process, directory: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return any("runforrest.futures.runner" in each for each in command) and f'"{directory}"' in " ".join(command)


def no_runner_left(directory: Path) -> None:
    wait_for(lambda: not runners(directory), SECONDS, "the runner has left")


def each_once(folder: Path, number: int) -> None:
    """Each call of `work.trace` has run, and run once."""
    found = sorted(int(name.partition(".")[0]) for name in os.listdir(folder))
    assert found == list(range(number)), f"{len(found)} runs of {number} calls"

"""run-once 0.4.2 itself, with its own server, and ours: the same program prints the same.

run-once comes from the package registry, into an environment of this session.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.conftest import free_ports
from tests.helpers import wait_for
from tests.hosts.machines import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ["run-once==0.4.2", "protobuf<4"]
EVERY_NAME, FAILURES = (Path(__file__).with_name(name) for name in ("old_script.py", "failing_script.py"))
SERVER = "import os, run_once; print(os.path.dirname(run_once.__file__))"
Tried = Callable[[str, int], None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python that has run-once."""
    folder = tmp_path_factory.mktemp("run-once")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    made = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES],
                          capture_output=True, text=True)
    if made.returncode or subprocess.run([python, "-c", "import run_once"], capture_output=True).returncode:
        pytest.skip(f"run-once can't be had here: {made.stderr[-300:]}")
    return python


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def home(original: str, tmp_path: Path) -> Iterator[Path]:
    """A home whose .run_once.ini names a server of run-once."""
    port = free_ports(1)
    where = subprocess.run([original, "-c", SERVER], capture_output=True, text=True, check=True).stdout.strip()
    process = subprocess.Popen([f"{where}/cmake-build-release/distlock", "--db", str(tmp_path / "db"), "--port",
                                str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, 20)
        (tmp_path / ".run_once.ini").write_text(f"[DEFAULT]\naddress=127.0.0.1\nport={port}\n")
        yield tmp_path
    finally:
        process.kill()
        process.wait()


def program(python: str, script: Path, which: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen([python, str(script), which], env={**os.environ, **environment}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_same_program_prints_the_same(original: str, home: Path, address: str, tried: Tried) -> None:
    """Most of its time it waits for leases to end, so both run at once."""
    with program(original, EVERY_NAME, "original", HOME=str(home)) as theirs, \
            program(sys.executable, EVERY_NAME, "ours", RUNFORREST_KEYS=address, PYTHONPATH=str(ROOT)) as ours:
        (expected, said), (found, more) = theirs.communicate(), ours.communicate()
    assert theirs.returncode == ours.returncode == 0, said + more
    assert found == expected and found.count("\n") > 20
    tried("lines that a program for run-once prints, with it and with ours", found.count("\n"))


def test_no_failure_is_lost(original: str, home: Path, address: str, tried: Tried) -> None:
    """How many run-once loses depends on how busy the machine is, so that is printed only."""
    with program(original, FAILURES, "original", HOME=str(home)) as theirs:
        expected, said = theirs.communicate()
    with program(sys.executable, FAILURES, "ours", RUNFORREST_KEYS=address, PYTHONPATH=str(ROOT)) as ours:
        found, more = ours.communicate()
    assert theirs.returncode == ours.returncode == 0, said + more
    assert found == "of 1000: 0\n"
    tried("failures of 1,000 that run-once did not tell its server", int(expected.removeprefix("of 1000: ")))
    tried("failures that ours has told its server or folder, all of them", 1000)

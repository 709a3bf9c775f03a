"""Task files of a million lines: fed in windows, in memory that does not grow with them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runforrest.batch.feeder import WINDOW
from tests.batch.support import records
from tests.helpers import files, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LINES = 1_000_000
WATCHED = 3000                     # tasks that are run of these
MOST_BYTES = 80 << 20              # of one process, with Python and all that it has imported
GROWTH_BYTES = 12 << 20            # from the first tasks to the last that are watched


def done(folder: Path) -> int:
    """How many records the status file has."""
    try:
        return (folder / "x_status.txt").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`runforrest batch` on two slots, ended whatever happens; its standard input is the file ``Tasks``."""
    with open(folder / "Tasks", "rb") as file, \
            subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-s", "localhost:2", "-p", "x", *arguments],
                             cwd=folder, stdin=file, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def sizes(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Bytes in memory of the command, its runner, and what the runner has started: what lasts longer than a task."""
    found = {}
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            found[f"{each.pid} {' '.join(each.cmdline()[:5]):.60}"] = each.memory_info().rss
    return found


def waiting(directory: Path) -> int:
    """Tasks of the list that have not ended."""
    return len(files(directory, "todo/*.pkl")) + len(files(directory, "doing/*/*.pkl"))


@pytest.mark.parametrize("source", ["Tasks", "-"])
def test_a_million_lines_in_flat_memory(source: str, tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    (tmp_path / "Tasks").write_bytes(b"true\n" * LINES)
    begun = time.monotonic()
    with running(tmp_path, source) as process:
        wait_for(lambda: done(tmp_path), 120, "the first task has ended")
        print(f"{LINES} lines from {source}: the first record was there after {time.monotonic() - begun:.2f} s")
        wait_for(lambda: done(tmp_path) >= WATCHED // 3, 300)
        first, most_waiting = sizes(process), 0
        while done(tmp_path) < WATCHED:
            most_waiting = max(most_waiting, waiting(tmp_path / "x_tasklist"))
            time.sleep(0.2)
        later = sizes(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    print(f"at most {max(later.values()) / 1e6:.1f} MB in one process; {most_waiting} tasks in the list")
    assert max(later.values()) < MOST_BYTES, later
    assert all(size - first[name] < GROWTH_BYTES for name, size in later.items() if name in first), (first, later)
    assert 0 < most_waiting <= WINDOW + 1, "the feeder itself is one, too"
    found = [record.task for record in records(tmp_path)]
    assert len(set(found)) == len(found), "each once"
    assert len(set(range(len(found))) - set(found)) <= 2, "but for what ran when the feeder was put back"
    tried("lines of task files fed in windows", LINES)


MANY, EVERY = 20_000, 200          # tasks that are run to the end; each of so many is one to be killed
VICTIM = "sleep 0.2; echo victim"


def test_many_tasks_to_the_end_while_some_are_killed(tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    lines = [VICTIM if number % EVERY == 0 else "true" for number in range(MANY)]
    (tmp_path / "Tasks").write_text("\n".join(lines))
    killed = 0
    with running(tmp_path, "-e", "Tasks") as process:
        while process.poll() is None:
            killed += sum(kill(victim) for victim in psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.3)
        assert process.wait() == 1
    found = sorted(records(tmp_path), key=lambda record: record.task)
    assert [record.task for record in found] == list(range(MANY)), "each once"
    ends = {(record.command, record.code, record.out) for record in found}
    late = (VICTIM, -signal.SIGKILL, "victim\n")      # it had just said so
    assert ends - {late} == {("true", 0, ""), (VICTIM, 0, "victim\n"), (VICTIM, -signal.SIGKILL, "")}
    assert killed >= sum(record.code == -signal.SIGKILL for record in found)
    assert not list((tmp_path / "x_tasklist/todo").iterdir())
    tried("commands run to the end", MANY)
    tried("commands killed meanwhile", killed)


def kill(process: psutil.Process) -> bool:
    """End the bash of a victim."""
    with contextlib.suppress(psutil.Error):
        if process.cmdline()[-1:] == [VICTIM]:
            process.kill()
            return True
    return False

"""`runforrest batch --taskserver`: lines that other programs add to a batch that waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from runforrest.batch import DisBatcher
from runforrest.errors import InvalidArgument, NotATaskList, ProcessError
from tests.batch.support import SECONDS, batch, brief, records
from tests.helpers import wait_for

ADDS = "import sys; from runforrest.batch import DisBatcher; b = DisBatcher(kvsserver=sys.argv[1]); " \
       "[b.submit([f'echo {sys.argv[2]}.{n}.{part}' for part in 'ab']) for n in range(25)]"


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A batch with the prefix ``x`` that waits for lines."""
    process = subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "--taskserver", "-s", "localhost:2", "-p",
                                "x", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Lines are taken from DisBatcher(kvsserver='{folder}/x')\n"
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)      # to leave takes two of them
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


def test_a_program_adds_lines_and_waits_for_them(tmp_path: Path) -> None:
    with server(tmp_path) as process:
        batcher = DisBatcher(kvsserver=tmp_path / "x")
        batcher.submit("#DISBATCH PERENGINE START echo here >> joined")
        batcher.submit(["echo $((6 * 7))", "exit 3"])
        found = batcher.syncTasks([0, 1])
        assert (found[0]["OutData"], found[1]["ReturnCode"]) == ("42\n", 3)
        assert (tmp_path / "joined").read_text() == "here\n"
        batcher.submit("#DISBATCH BARRIER passed")
        assert batcher.kvs.get("passed") == b"2"
        batcher.submit("echo $DISBATCH_NAMETASKS")
        assert batcher.wait_one_task()["OutData"] == "STREAM\n" and process.poll() is None
        assert batcher.done() is None
        with pytest.raises(ProcessError, match=r"there are no more|has ended"):
            batcher.submit("true")
        assert process.wait(SECONDS) == 0
        with pytest.raises(ProcessError, match="has ended, and has no record of"):
            batcher.syncTasks([17])
    with pytest.raises(ProcessError, match="has ended"):
        DisBatcher(kvsserver=tmp_path / "x")


def test_no_program_of_ours_is_needed(tmp_path: Path) -> None:
    with server(tmp_path, "-e") as process:
        subprocess.run(["bash", "-c", "echo 'echo one' >> x_tasklist/batch.lines; seq 2 3 | sed 's/^/echo /' >> "
                        "x_tasklist/batch.lines; touch x_tasklist/batch.lines.end"], cwd=tmp_path, check=True)
        assert process.wait(SECONDS) == 0
    assert {number: out for number, (_, _, out) in brief(tmp_path).items()} == {0: "one\n", 1: "2\n", 2: "3\n"}


def test_several_programs_add_lines_at_once(tmp_path: Path) -> None:
    with server(tmp_path) as process:
        adding = [subprocess.Popen([sys.executable, "-c", ADDS, str(tmp_path / "x"), str(each)]) for each in range(3)]
        assert [each.wait(SECONDS) for each in adding] == [0, 0, 0]
        DisBatcher(kvsserver=tmp_path / "x").done()
        assert process.wait(SECONDS) == 0
    found = [record.out.strip() for record in sorted(records(tmp_path), key=lambda record: record.task)]
    assert sorted(found) == sorted(f"{each}.{n}.{part}" for each in range(3) for n in range(25) for part in "ab")
    assert all(second == first[:-1] + "b" for first, second in zip(found[::2], found[1::2], strict=True)), "together"


def test_who_waited_for_lines_is_killed(tmp_path: Path) -> None:
    """What was added is run; what comes later is refused."""
    with server(tmp_path) as process:
        batcher = DisBatcher(kvsserver=tmp_path / "x")
        batcher.submit(["until [[ -e go ]]; do sleep 0.05; done", "echo later"])
        wait_for(lambda: list(tmp_path.glob("x_tasklist/doing/*/*-0.*")))
        runners = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        with pytest.raises(ProcessError, match="who waited for them, is gone"):
            wait_for(lambda: batcher.submit("echo never"))      # once the runner has seen it
        (tmp_path / "go").touch()
        assert batcher.syncTasks([1])[1]["OutData"] == "later\n"
        psutil.wait_procs(runners, SECONDS)
        with pytest.raises(ProcessError, match="has ended, and has no record"):
            batcher.syncTasks([1000])


def test_a_failure_ends_it(tmp_path: Path) -> None:
    with server(tmp_path, "-f") as process:
        batcher = DisBatcher(kvsserver=tmp_path / "x")
        batcher.submit(["false", "sleep 100"])
        assert process.wait(SECONDS) == 1
        with pytest.raises(ProcessError, match="has ended"):
            batcher.submit("true")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_is_stopped_before_the_first_line(tmp_path: Path, signum: signal.Signals) -> None:
    with server(tmp_path) as process:
        batcher = DisBatcher(kvsserver=tmp_path / "x")
        process.send_signal(signum)
        assert process.wait(SECONDS) == 128 + signum
        with pytest.raises(ProcessError, match=r"is gone|nobody works on"):
            batcher.submit("true")


def test_what_takes_no_lines_from_others(tmp_path: Path) -> None:
    with pytest.raises(NotATaskList, match=r"there is no batch with the prefix .*/x here; .*--taskserver"):
        DisBatcher(kvsserver=tmp_path / "x")
    with pytest.raises(InvalidArgument, match="has its own options"):
        DisBatcher(args=["-e"], kvsserver="x")
    assert batch(tmp_path, "-s", "localhost:1", "-p", "x", text="true\n").returncode == 0
    with pytest.raises(ProcessError, match="takes no lines from other programs"):
        DisBatcher(kvsserver=tmp_path / "x")


def test_a_lock_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    monkeypatch.setattr("runforrest.batch.takers.LOCK_SECONDS", 0.3)
    with server(tmp_path) as process:
        batcher = DisBatcher(kvsserver=tmp_path / "x")
        lock = os.open(tmp_path / "x_tasklist/.batch.lines.lock", os.O_CREAT | os.O_WRONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProcessError, match="no lines could be added"):
            batcher.submit("true")
        os.close(lock)
        batcher.submit("echo here")
        assert batcher.syncTasks([0])[0]["OutData"] == "here\n" and process.poll() is None


def test_half_a_line_of_a_program_that_was_killed(tmp_path: Path) -> None:
    with server(tmp_path) as process:
        batcher, lines = DisBatcher(kvsserver=tmp_path / "x"), tmp_path / "x_tasklist/batch.lines"
        for more in ("echo one", "echo " + "x" * 200_000):
            with lines.open("a") as file:
                file.write("touch half; touch ha" + "lf" * 100_000)
            batcher.submit(more)
        with lines.open("a") as file:
            file.write("touch half")
        batcher.done()
        assert process.wait(SECONDS) == 0
    assert [len(record.command) > 100_000 for record in records(tmp_path)] == [False, True]
    assert not (tmp_path / "half").exists()

"""`runforrest run`: real runners, real signals, every exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from runforrest import defer
from runforrest.cli.exits import FAILED, INTERRUPTED, OK, TERMINATED, TROUBLE, USAGE
from tests.cli import work
from tests.cli.programs import COMMAND, SECONDS, ended, environment, files, inside, runforrest, start, tasklist
from tests.helpers import wait_for


def test_all_done(tasklist_dir: Path) -> None:
    tasks = tasklist(tasklist_dir, *(defer(work.double, n) for n in range(5)))
    answer = runforrest("run", tasklist_dir, "-n", 2)
    assert (answer.returncode, answer.stdout) == (OK, "")
    first, *_, last = answer.stderr.splitlines()
    assert first == f"runforrest: 2 slots at work on {tasklist_dir}"
    assert re.fullmatch(r"runforrest: 5 done, 0 failed in .* \(.*/s\)", last)
    assert sorted(task.returnvalue for task in tasks.done_tasks()) == [0, 2, 4, 6, 8]


def test_one_failed(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir, defer(work.double, 1), defer(work.fail, 0))
    answer = runforrest("run", tasklist_dir, "-n", 1, "--json")
    assert answer.returncode == FAILED
    summary = json.loads(answer.stdout)
    assert (summary["reason"], summary["done"], summary["fail"]) == ("done", 1, 1)
    assert f"`runforrest ls {tasklist_dir} fail`" in answer.stderr


def test_nothing_to_do(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir)
    assert runforrest("run", tasklist_dir, "--quiet").stderr == ""


def test_limits_reach_the_tasks(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = tasklist(tasklist_dir, defer(work.once_more, str(tmp_path / "counter")), defer(work.endless))
    answer = runforrest("run", tasklist_dir, "-n", 2, "--autokill", 2, "--grace", 0, "--retries", 1, "--memory", "2G",
                       "--crash-limit", 1, "--isolation", "reuse", "--max-tasks", 1)
    assert answer.returncode == FAILED
    assert [task.returnvalue for task in tasks.done_tasks()] == [2]
    assert [[a.outcome for a in task.attempts] for task in tasks.fail_tasks()] == [["timed_out", "timed_out"]]


def test_preload_and_session(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = tasklist(tasklist_dir, defer(work.loaded, "beforehand"), defer(work.loaded, "of_the_session"))
    (tmp_path / "beforehand.py").touch()
    (tmp_path / "of_the_session.py").touch()
    program = f"import of_the_session, dill; dill.dump_module({str(tmp_path / 'session.pkl')!r})"
    subprocess.run([COMMAND[0], "-c", program], cwd=tmp_path, env=environment(), check=True)
    answer = runforrest("run", tasklist_dir, "--preload", "beforehand", "-s", "session.pkl", cwd=tmp_path)
    assert (answer.returncode, [task.returnvalue for task in tasks.done_tasks()]) == (OK, [True, True]), answer.stderr


# -- bad input: one line, before anything runs ---------------------------------------------


@pytest.mark.parametrize(("arguments", "expected"), [
    (["-n", "0"], "nprocesses must be a whole number, 1 or more"),
    (["-n", "many"], "not a valid integer"),
    (["--timeout", "-1"], "timeout must be positive"),
    (["--timeout", "nan"], "timeout must be a number"),
    (["--memory", "lots"], "not a number of bytes"),
    (["--retries", "-1"], "retries must be a whole number"),
    (["--crash-limit", "0"], "crash_limit must be a whole number, 1 or more"),
    (["--max-tasks", "-1"], "max_tasks"),
    (["--session", "nowhere"], "there is no session file nowhere"),
    (["--isolation", "none"], "isolation"),
    (["--nonsense"], "No such option"),
])
def test_bad_options(tasklist_dir: Path, arguments: list[str], expected: str) -> None:
    tasklist(tasklist_dir, defer(work.double, 1))
    answer = inside("run", tasklist_dir, *arguments)
    _check_refused(answer, expected)
    assert files(tasklist_dir, "todo") == ["double"]


def _check_refused(answer: subprocess.CompletedProcess[str], expected: str) -> None:
    assert answer.returncode == USAGE
    assert answer.stdout == ""
    assert re.fullmatch(r"Error: [^\n]*\n", answer.stderr), answer.stderr
    assert expected in answer.stderr


@pytest.mark.parametrize("command", ["run", "status", "ls", "clean"])
def test_no_task_list(tmp_path: Path, command: str) -> None:
    more = ["--all", "--yes"] if command == "clean" else []
    (tmp_path / "file").write_text("text")
    _check_refused(runforrest(command, tmp_path, *more), "is not a task list")
    _check_refused(inside(command, tmp_path / "missing", *more), "is not a folder")
    _check_refused(inside(command, tmp_path / "file", *more), "is not a folder")
    assert (tmp_path / "file").read_text() == "text"


def test_an_error_that_can_not_be_said_has_its_code(tmp_path: Path) -> None:
    """As when a runner's log is on a full disk: 1 would say that a task has failed."""
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([*COMMAND, "run", str(tmp_path)], env=environment(), stderr=full, timeout=SECONDS)
    assert ended.returncode == USAGE


def test_format_from_the_future(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir, defer(work.double, 1))
    (tasklist_dir / "runforrest.json").write_text('{"format": 999}')
    _check_refused(runforrest("run", tasklist_dir), "upgrade runforrest")
    (tasklist_dir / "runforrest.json").write_text("no json")
    _check_refused(inside("run", tasklist_dir), "is damaged")
    assert files(tasklist_dir, "todo") == ["double"]


def test_folder_that_others_may_write(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir, defer(work.double, 1))
    (tasklist_dir / "todo").chmod(0o777)
    _check_refused(runforrest("run", tasklist_dir), "chmod go-w")
    assert files(tasklist_dir, "todo") == ["double"]
    assert runforrest("status", tasklist_dir).returncode == OK          # looking is harmless
    assert runforrest("run", tasklist_dir, "--trust").returncode == OK


# -- trouble ------------------------------------------------------------------------------


def test_processes_that_do_not_start(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir, defer(work.double, 1))
    answer = runforrest("run", tasklist_dir, "--preload", "no_such_module")
    assert answer.returncode == USAGE and "Error: preload: there is no module 'no_such_module'" in answer.stderr
    answer = runforrest("run", tasklist_dir, "--preload", "runforrest.no_such_module")
    assert answer.returncode == TROUBLE
    assert "Error: the fork server did not start: preload of runforrest.no_such_module failed" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert files(tasklist_dir, "todo") == ["double"]


def test_declared_lost(tasklist_dir: Path, tmp_path: Path) -> None:
    tasklist(tasklist_dir, defer(work.until, str(tmp_path / "started"), str(tmp_path / "go")))
    (tasklist_dir / "runforrest.json").write_text('{"format": 1, "beat": 0.1, "lease": 50, "durability": "none"}')
    with start("run", tasklist_dir, "-n", 1, stderr=tmp_path / "said") as program:
        wait_for((tmp_path / "started").exists, SECONDS)
        wait_for(lambda: _declare_dead(tasklist_dir / ".runforrest" / "hb"), SECONDS)
        assert program.wait(SECONDS) == TROUBLE
    said = (tmp_path / "said").read_text()
    assert "declared lost" in said and "0 done, 0 failed" in said


def _declare_dead(folder: Path) -> bool:
    try:
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.rpartition("@")[0] + "@dead"))
            return True
    except FileNotFoundError:              # it beat in between
        pass
    return False


# -- signals ------------------------------------------------------------------------------


def _waiting(directory: Path, where: Path) -> tuple[Path, Path]:
    """A list whose first task says when it has started, and waits for permission to end."""
    started, go = where / "started", where / "go"
    tasklist(directory, defer(work.until, str(started), str(go)), defer(work.double, 2))
    return started, go


def test_ctrl_c_finishes_what_runs(tasklist_dir: Path, tmp_path: Path) -> None:
    started, go = _waiting(tasklist_dir, tmp_path)
    said = tmp_path / "said"
    with start("run", tasklist_dir, "-n", 1, stderr=said) as program:
        wait_for(started.exists, SECONDS)
        program.send_signal(signal.SIGINT)
        wait_for(lambda: "1 running task will be finished" in said.read_text(), SECONDS)
        go.touch()
        assert program.wait(SECONDS) == INTERRUPTED
    assert (files(tasklist_dir, "done"), files(tasklist_dir, "todo")) == (["until"], ["double"])
    assert "interrupted, what ran was finished: 1 done, 0 failed" in said.read_text()


def test_second_ctrl_c_puts_back(tasklist_dir: Path, tmp_path: Path) -> None:
    started, _ = _waiting(tasklist_dir, tmp_path)
    said = tmp_path / "said"
    with start("run", tasklist_dir, "-n", 1, "--quiet", stderr=said) as program:
        wait_for(started.exists, SECONDS)
        program.send_signal(signal.SIGINT)
        wait_for(lambda: "stopping" in said.read_text(), SECONDS)
        program.send_signal(signal.SIGINT)
        assert program.wait(SECONDS) == INTERRUPTED
    assert (files(tasklist_dir, "done"), files(tasklist_dir, "todo")) == ([], ["double", "until"])


def test_sigterm_puts_back(tasklist_dir: Path, tmp_path: Path) -> None:
    started, _ = _waiting(tasklist_dir, tmp_path)
    with start("run", tasklist_dir, "-n", 1, stderr=tmp_path / "said") as program:
        wait_for(started.exists, SECONDS)
        program.terminate()
        assert program.wait(SECONDS) == TERMINATED
    assert files(tasklist_dir, "todo") == ["double", "until"]
    assert not (tasklist_dir / "doing").exists()


def test_wait_stays_for_more(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = tasklist(tasklist_dir, defer(work.double, 1))
    with start("run", tasklist_dir, "-n", 1, "--wait", stderr=tmp_path / "said") as program:
        wait_for(lambda: len(files(tasklist_dir, "done")) == 1, SECONDS)
        tasks.schedule(defer(work.double, 2))
        wait_for(lambda: len(files(tasklist_dir, "done")) == 2, SECONDS)
        program.send_signal(signal.SIGINT)
        assert program.wait(SECONDS) == INTERRUPTED


def test_two_at_once(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = tasklist(tasklist_dir, *(defer(work.double, n) for n in range(60)))
    with start("run", tasklist_dir, "-n", 1, stderr=tmp_path / "a") as first, \
            start("run", tasklist_dir, "-n", 1, stderr=tmp_path / "b") as second:
        assert (first.wait(SECONDS), second.wait(SECONDS)) == (OK, OK)
    assert sorted(task.returnvalue for task in tasks.done_tasks()) == [2 * n for n in range(60)]
    counts = [int(re.search(r"(\d+) done", (tmp_path / name).read_text())[1]) for name in "ab"]  # type: ignore[index]
    assert sum(counts) == 60


# -- a terminal ---------------------------------------------------------------------------


class Terminal:
    """A program at the other end of a real terminal; a test that fails ends it."""

    def __init__(self, *arguments: object, term: str = "xterm") -> None:
        self.ours, theirs = pty.openpty()
        self.program = subprocess.Popen([*COMMAND, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs,
                                        env=environment(TERM=term, COLUMNS="100"), start_new_session=True)
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.ours, 4096):
                self.text += data.decode(errors="replace")
        except OSError:                    # EIO: the program has ended
            pass

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        with ended(self.program):
            pass
        self._reader.join()
        os.close(self.ours)

    def end(self) -> int:
        code = self.program.wait(SECONDS)
        self._reader.join()
        return code


def test_live_line(tasklist_dir: Path, tmp_path: Path) -> None:
    started, go = _waiting(tasklist_dir, tmp_path)
    with Terminal("run", tasklist_dir, "-n", 1) as terminal:
        wait_for(started.exists, SECONDS)
        wait_for(lambda: "0 done, 0 failed, 1 running, 1 waiting" in terminal.text, SECONDS)
        go.touch()
        assert terminal.end() == OK
    assert "\r\x1b[2K" in terminal.text                     # the line is written over
    assert re.search(r"runforrest: 2 done, 0 failed in \S+", terminal.text.splitlines()[-1])
    assert "slot at work" not in terminal.text


def test_ctrl_c_on_the_terminal(tasklist_dir: Path, tmp_path: Path) -> None:
    """Messages of the runner appear beside the live line, and the cursor comes back."""
    started, go = _waiting(tasklist_dir, tmp_path)
    with Terminal("run", tasklist_dir, "-n", 1) as terminal:
        wait_for(started.exists, SECONDS)
        wait_for(lambda: "1 running" in terminal.text, SECONDS)
        os.killpg(terminal.program.pid, signal.SIGINT)      # as the terminal does, to all of the group
        wait_for(lambda: "runforrest: stopping" in terminal.text, SECONDS)
        go.touch()
        assert terminal.end() == INTERRUPTED
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")


def test_dumb_terminal_gets_plain_lines(tasklist_dir: Path) -> None:
    tasklist(tasklist_dir, defer(work.double, 1))
    with Terminal("run", tasklist_dir, "-n", 1, term="dumb") as terminal:
        assert terminal.end() == OK
    assert "runforrest: 1 slot at work" in terminal.text
    assert "\x1b" not in terminal.text

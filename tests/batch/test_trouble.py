"""`runforrest batch` where something is in the way: wrong input, closed files, a terminal that is gone, a full disk."""

from __future__ import annotations

import itertools
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from runforrest.batch import DisBatcher, making, per_engine, spool
from runforrest.batch.begin import begin, make_room
from runforrest.batch.driver import Driver
from runforrest.batch.options import BatchOptions, Files
from runforrest.batch.plan import Plan
from runforrest.batch.statusfile import StatusFile, StatusLine
from runforrest.errors import InvalidArgument, ProcessError, TaskListExists
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.transitions import TaskFolder
from tests.batch.support import batch, brief, records
from tests.helpers import small_filesystem, wait_for

HERE = ("-s", "localhost:1", "-p", "x")
COMMAND = (sys.executable, "-m", "runforrest", "batch")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- before it begins --------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "arguments"), [("#DISBATCH REPAET\n", ()), ("", ("-s", "no cores"))])
def test_a_run_that_can_not_begin_leaves_what_it_would_have_resumed(tmp_path: Path, more: str,
                                                                   arguments: Sequence[str]) -> None:
    batch(tmp_path, *HERE, text="true\nfalse\n")
    before = files(tmp_path)
    resume = (*HERE, "-R", "-r", "x_status.txt")
    assert batch(tmp_path, *resume, *arguments, text=f"true\nfalse\n{more}").returncode == 2
    assert files(tmp_path) == before and len(records(tmp_path)) == 2
    assert batch(tmp_path, *resume, text="true\nfalse\n").returncode == 0
    assert files(tmp_path) == before | {"x_status.txt.1", "x_tasklist.1"}


def test_a_batch_that_can_not_be_made_leaves_no_list(tmp_path: Path) -> None:
    (tmp_path / "x_status.txt").mkdir()
    ended = batch(tmp_path, *HERE, text="true\n")
    assert ended.returncode == 3 and "x_status.txt" in ended.stderr
    assert batch(tmp_path, *HERE, "--durability", "some", text="true\n").returncode == 2
    assert files(tmp_path) == {"Tasks", "x_status.txt"}


def test_of_two_that_begin_at_the_same_moment_one_does(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("true\n")
    for turn in range(20):
        plans = [Plan(str(tmp_path / "Tasks"), "Tasks", f"{tmp_path}/{turn}", BatchOptions(task_file="Tasks"),
                      str(tmp_path), f"{tmp_path}/{turn}.log") for _ in range(4)]
        begun: list[str] = []
        together = threading.Barrier(len(plans))

        def one(plan: Plan, begun: list[str] = begun, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                begin(plan)
                begun.append(plan.tag)
            except TaskListExists:
                pass

        threads = [threading.Thread(target=one, args=(plan,)) for plan in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        folder = tmp_path / f"{turn}_tasklist"
        assert len(begun) == 1 and len(list((folder / "todo").iterdir())) == 1
        assert f'"tag": "{begun[0]}"' in (folder / "batch.json").read_text()


def test_who_is_killed_while_it_begins_is_in_nobodys_way(tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    """Before each of its file operations; what it would have resumed from is where it was."""
    for deadly in itertools.count():
        folder, begun = tmp_path / str(deadly), Files(f"{tmp_path}/{deadly}/x")
        folder.mkdir()
        (folder / "Tasks").write_text("true\n")
        (folder / "x_status.txt").write_text("an old one\n")
        if not _begin_and_die(folder, BatchOptions("Tasks", resume_from=["x_status.txt"]), deadly):
            break
        left = making.is_left(begun.task_list)
        if left:
            making.remove(begun)
        status = (folder / "x_status.txt").read_text()
        assert (left, os.path.exists(begun.task_list), status) in (
            (True, False, "an old one\n"), (False, False, "an old one\n"), (False, True, "")), deadly
        assert not os.path.exists(begun.task_list) or Plan.read(FileOps(begun.task_list)), deadly
    tried("deaths of who begins a batch", deadly)


def test_the_same_command_runs_all_that_a_killed_one_has_not_begun(tmp_path: Path) -> None:
    batch(tmp_path, *HERE, text="echo 0\nfalse\n")
    assert _begin_and_die(tmp_path, BatchOptions("Tasks", resume_from=["x_status.txt"]), 12)
    ended = batch(tmp_path, *HERE, "-r", "x_status.txt", "-R", "Tasks")
    assert ended.returncode == 0 and "x_tasklist was removed" in ended.stderr
    assert {flags for flags, _, _ in brief(tmp_path).values()} == {" O S", "R   "}


@pytest.mark.parametrize("more", ["done/mine.pkl", "notes", "todo/mine.pkl", ".runforrest/hb/other@3"])
def test_what_a_killed_one_has_left_stays_if_there_is_more(tmp_path: Path, more: str) -> None:
    (tmp_path / "Tasks").write_text("true\n")
    assert _begin_and_die(tmp_path, BatchOptions("Tasks"), 12)
    (tmp_path / "x_tasklist" / more).touch()
    ended = batch(tmp_path, *HERE, "Tasks")
    assert ended.returncode == 2 and "remove it or give another --prefix" in ended.stderr
    (tmp_path / "x_tasklist" / more).unlink()
    assert batch(tmp_path, *HERE, "Tasks").returncode == 0


def test_what_somebody_else_is_just_making_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Tasks").write_text("true\n")
    plan = Plan(f"{tmp_path}/Tasks", "Tasks", f"{tmp_path}/x", BatchOptions("Tasks"), str(tmp_path), "log")
    write, refused = Plan.write, []

    def write_later(self: Plan, fs: FileOps) -> None:
        refused.append(batch(tmp_path, *HERE, "Tasks").returncode)
        write(self, fs)
    monkeypatch.setattr(Plan, "write", write_later)
    begin(plan)
    assert refused == [2] and (tmp_path / "x_tasklist" / layout.BATCH).exists()


def _begin_and_die(folder: Path, options: BatchOptions, deadly: int) -> bool:
    """Begin a batch, and be killed before file operation number ``deadly``; False if there are fewer."""
    plan = Plan(f"{folder}/Tasks", "Tasks", f"{folder}/x", options, str(folder), f"{folder}/x_driver.log")
    options.resume_from = [str(folder / name) for name in options.resume_from]
    left = itertools.count(deadly, -1)

    def before(self: FileOps, operation: str, *names: str) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    pid = os.fork()
    if not pid:
        try:
            FileOps.before = before                 # type: ignore[method-assign]
            make_room(plan, print)
            begin(plan)
            os._exit(0)
        finally:
            os._exit(1)
    code = wait_ended(pid, 60)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_who_is_killed_while_it_feeds_the_first_lines(tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    """Before each rename by which a task is published: the next feeder publishes what is missing."""
    text = "#DISBATCH REPEAT 2 echo $DISBATCH_REPEAT_INDEX\necho 2\n#DISBATCH BARRIER\necho 3\n"
    for deadly in itertools.count(1):
        folder = tmp_path / str(deadly)
        folder.mkdir()
        (folder / "Tasks").write_text(text)
        plan = Plan(f"{folder}/Tasks", "Tasks", f"{folder}/x", BatchOptions(task_file="Tasks"), str(folder), "log")
        list_folder, _ = begin(plan)
        pid = os.fork()
        if not pid:
            _feed_head_and_die(list_folder, plan, deadly)
        ended = wait_ended(pid, 60)
        assert subprocess.run([sys.executable, "-m", "runforrest", "run", "x_tasklist", "-n2", "--quiet"], cwd=folder,
                              timeout=60).returncode == 0
        assert {task: out for task, (_, _, out) in brief(folder).items()} == {0: "0\n", 1: "1\n", 2: "2\n", 3: "",
                                                                               4: "3\n"}
        assert len(records(folder)) == 5 and len(list((folder / "x_tasklist/done").iterdir())) == 5
        if ended == 0:
            break
    assert deadly > 6, "two for each task"
    tried("deaths of who feeds the first lines", deadly - 1)


def test_what_an_earlier_feeder_has_published_is_ended_by_the_first_failure(tmp_path: Path) -> None:
    """And recorded, if it was started."""
    text = ("touch log.0\nwhile [[ ! -e log.0 ]]; do sleep 0.01; done; false\n"
            + "touch log.$DISBATCH_TASKID; sleep 600\n" * 40)
    ended = batch(tmp_path, "-f", "-s", "localhost:2", "-p", "x", text=text)
    assert ended.returncode == 1 and "task 1 has failed" in ended.stderr
    found = brief(tmp_path)
    started = {int(path.suffix[1:]) for path in tmp_path.glob("log.*")}
    assert {0, 1} | started <= set(found) <= {0, 1, 2, 3}
    assert found[0][:2] == ("    ", 0) and {flags for flags, _, _ in found.values()} == {"    ", "R   "}
    assert not list((tmp_path / "x_tasklist/todo").iterdir())


def test_the_first_failure_ends_the_batch_whoever_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _feed_up_to_the_first_record(tmp_path, "a command with a \0\ntouch never\n", BatchOptions("Tasks", fail_fast=True),
                                 monkeypatch)
    assert list(brief(tmp_path)) == [0] and not (tmp_path / "never").exists()
    assert "and --fail-fast was given" in (tmp_path / "x_tasklist" / layout.RESULT).read_text()


def test_a_barrier_that_was_recorded_has_its_key_whoever_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _feed_up_to_the_first_record(tmp_path, "#DISBATCH BARRIER passed\ntrue\n", BatchOptions("Tasks"), monkeypatch)
    assert (tmp_path / "x_tasklist" / layout.KEYS).read_text() == '{"key": "passed", "task": 0}\n'
    assert sorted(brief(tmp_path)) == [0, 1]


def _feed_up_to_the_first_record(tmp_path: Path, text: str, options: BatchOptions,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The feeder is killed when it has written its first record; another one takes over, to the end."""
    (tmp_path / "Tasks").write_text(text)
    plan = Plan(f"{tmp_path}/Tasks", "Tasks", f"{tmp_path}/x", options, str(tmp_path), f"{tmp_path}/log")
    folder, _ = begin(plan)
    write = StatusFile.write

    def write_and_die(self: StatusFile, record: StatusLine) -> None:
        write(self, record)
        os.kill(os.getpid(), signal.SIGKILL)
    monkeypatch.setattr(StatusFile, "write", write_and_die)
    pid = os.fork()
    if not pid:
        try:
            Driver(folder, plan, print)._stand_in(lambda feeder: feeder.run() and None)
        finally:
            os._exit(1)
    assert wait_ended(pid, 60) == -signal.SIGKILL and len(records(tmp_path)) == 1
    assert subprocess.run([sys.executable, "-m", "runforrest", "run", "x_tasklist", "-n1", "--quiet"], cwd=tmp_path,
                          timeout=60).returncode == 0


def _feed_head_and_die(folder: TaskFolder, plan: Plan, deadly: int) -> NoReturn:
    left = itertools.count(deadly, -1)

    def hook(operation: str, args: tuple[object, ...]) -> None:
        if operation == "rename" and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    folder.fs.hook = hook
    try:
        Driver(folder, plan, print).feed_head()
        os._exit(0)
    finally:
        os._exit(1)


def test_an_error_in_a_batch_says_how_to_go_on(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, "-", stdin="true\n#DISBATCH REPAET\necho last\n")
    assert ended.returncode == 1 and "line 2" in ended.stderr
    again = batch(tmp_path, *HERE, "-", stdin="")
    assert again.returncode == 2
    spool = tmp_path / "x_tasklist/batch.lines"
    spool.write_text(spool.read_text().replace("REPAET", "REPEAT 2 true"))
    for said in (ended.stderr, again.stderr):
        assert "`runforrest run " in said
    retry, run = (words.split() for words in again.stderr.split("`")[1::2][1:3])
    for words in (retry, run):
        subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, timeout=60, check=True, capture_output=True)
    assert sorted(brief(tmp_path)) == [0, 1, 2, 3] and brief(tmp_path)[3][2] == "last\n"
    assert "is done" in batch(tmp_path, *HERE, "-", stdin="").stderr


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = b"T\xff\xfe"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("echo $DISBATCH_NAMETASKS\n")
    subprocess.run([*COMMAND, "-s", "localhost:1", os.fsdecode(name)], cwd=tmp_path, timeout=60, check=True)
    script = next(os.fsdecode(path) for path in tmp_path.iterdir() if path.name.endswith("_dbUtil.sh"))
    subprocess.run([script, "--mon"], cwd="/", timeout=60, check=True, stdout=subprocess.DEVNULL)


def test_a_barrier_that_is_no_unicode(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_bytes(b"true\n#DISBATCH BARRIER \xff\necho last\n")
    assert batch(tmp_path, *HERE, "Tasks").returncode == 0
    assert [(r.task, r.out, r.command) for r in records(tmp_path)] == [
        (0, "", "true"), (1, "", repr(b"#DISBATCH BARRIER \xff")), (2, "last\n", "echo last")]


# -- what is closed, or goes away ----------------------------------------------------------------


@pytest.mark.parametrize(("closed", "source", "code"), [("<&-", "Tasks", 0), ("<&-", "-", 2), ("2>&-", "Tasks", 0),
                                                        (">&- 2>&-", "Tasks", 0)])
def test_closed_files(tmp_path: Path, closed: str, source: str, code: int) -> None:
    (tmp_path / "Tasks").write_text("true\n")
    line = f'exec "$@" {source} {closed}'
    ended = subprocess.run(["bash", "-c", line, "bash", *COMMAND, *HERE], cwd=tmp_path, timeout=60)
    assert ended.returncode == code and (tmp_path / "x_status.txt").exists() == (not code)


@pytest.mark.parametrize(("ended_by", "lines", "code"), [
    ("Ctrl-C", b"true\n", 130), ("its own end", b"false\n#DISBATCH BARRIER CHECK\n", 1), ("a failure", b"false\n", 1)])
def test_the_end_of_a_batch_whose_lines_have_none(tmp_path: Path, ended_by: str, lines: bytes, code: int) -> None:
    """That a thread waits for lines on standard input must not be in the way."""
    options = ["-f"] if ended_by == "a failure" else []
    with subprocess.Popen([*COMMAND, *HERE, *options, "-"], cwd=tmp_path, stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(lines)
        process.stdin.flush()
        wait_for(lambda: (tmp_path / "x_status.txt").exists() and brief(tmp_path), 30)
        if ended_by == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == code
        finally:
            process.kill()
        assert b"Fatal" not in process.stderr.read()


@pytest.mark.parametrize("line", ["yes false", "echo false; sleep 600"])
def test_a_command_that_prints_lines_is_ended_by_the_first_failure(tmp_path: Path, line: str) -> None:
    ended = batch(tmp_path, *HERE, "-f", "--taskcommand", line)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1 and "--fail-fast" in ended.stderr


def test_half_a_line_of_who_was_killed_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ALIVE_SECONDS", 0.0)
    fs = FileOps(str(tmp_path))
    (tmp_path / layout.LINES).write_bytes(b"rm -rf a\nrm -rf /")
    found = spool.follow(fs, lambda: False, lambda: False, print)
    assert next(found) == b"rm -rf a\n"
    assert list(found) == []
    (tmp_path / layout.LINES_END).touch()
    assert list(spool.follow(fs, lambda: False, lambda: False, print)) == [b"rm -rf a\n", b"rm -rf /"]


@pytest.mark.parametrize(("what", "code"), [("a wrong line", 2), (signal.SIGINT, 130), (signal.SIGTERM, 143),
                                            (signal.SIGHUP, 143), (signal.SIGUSR1, 4)])
def test_a_command_that_prints_lines_ends_with_the_batch(tmp_path: Path, what: str | signal.Signals,
                                                         code: int) -> None:
    line = "echo $$ > pid; " + ("echo '#DISBATCH REPAET'; " if what == "a wrong line" else "") + "sleep 600; true"
    with subprocess.Popen([*COMMAND, *HERE, "--taskcommand", line], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 30))
        if isinstance(what, signal.Signals):
            wait_for(lambda: rests(process.pid), 30, "who has just started it waits for its lines")
            process.send_signal(what)
        try:
            assert process.wait(60) == code
            wait_for(lambda: not psutil.pid_exists(pid), 10)
        finally:
            psutil.pid_exists(pid) and os.killpg(pid, signal.SIGKILL)
    assert files(tmp_path) == {"pid"}


def rests(pid: int) -> bool:
    """Whether this process waits for something, and not just for its turn."""
    for _ in range(20):
        if psutil.Process(pid).status() != psutil.STATUS_SLEEPING:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("heeded", "code"), [(True, 143), (False, 0)])
def test_a_terminal_that_is_gone(tmp_path: Path, heeded: bool, code: int) -> None:
    """The hang-up puts back what runs; who has ignored that goes on, though it can show nothing any more."""
    (tmp_path / "Tasks").write_text("touch begun; until [[ -e end ]]; do sleep 0.05; done\ntrue\n")
    pid, terminal = pty.fork()
    if not pid:
        if not heeded:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir(tmp_path)
        os.environ.pop("PYTHONUNBUFFERED", None)    # what could not be shown is kept then, and tried again at the end
        os.execv(COMMAND[0], [*COMMAND, "-e", *HERE, "Tasks"])
    try:
        wait_for(lambda: (tmp_path / "begun").exists(), 30)
        os.close(terminal)
        if not heeded:
            with pytest.raises(TimeoutError):
                wait_ended(pid, 1)
            (tmp_path / "end").touch()
        assert wait_ended(pid, 60) == code
    finally:
        (tmp_path / "end").touch()
        psutil.pid_exists(pid) and os.kill(pid, signal.SIGKILL)
    assert len(brief(tmp_path)) == (0 if heeded else 2)
    assert len(list((tmp_path / "x_tasklist/todo").iterdir())) == (3 if heeded else 0)


def wait_ended(pid: int, seconds: float) -> int:
    """The exit code of a child.  Raises TimeoutError."""
    try:
        return int(psutil.Process(pid).wait(seconds))
    except psutil.TimeoutExpired:
        raise TimeoutError from None


# -- a full disk -----------------------------------------------------------------------------------


def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    """There is room for the files of some 200 tasks, until there is more."""
    count, log, end = 300, tmp_path / "log", tmp_path / "end"
    with small_filesystem(tmp_path, "size=1m") as place:
        (place / "Tasks").write_text(f"until [[ -e {end} ]]; do sleep 0.05; done\n" + "true\n" * (count - 1))
        begin(Plan(str(place / "Tasks"), "Tasks", str(place / "x"), BatchOptions(task_file="Tasks"), str(tmp_path),
                   str(log)), durability="none")
        with open(tmp_path / "said", "wb") as said:
            runner = subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(place / "x_tasklist"), "-n", "1",
                                       "--quiet"], stderr=said)
            try:
                wait_for(lambda: log.exists() and "until the disk is well" in log.read_text(), 60)
                subprocess.run(["mount", "-o", "remount,size=16m", str(place)], check=True)
            finally:
                end.touch()
                if sys.exc_info()[0]:
                    runner.terminate()
                assert runner.wait(60) == 0
        assert [r.code for r in records(place)] == [0] * count and len(brief(place)) == count


def test_a_full_disk_is_waited_out_at_the_start(tmp_path: Path) -> None:
    """By the record of what the engine runs first, and then by the runner."""
    with small_filesystem(tmp_path, "size=1m") as place, open(tmp_path / "said", "wb") as said:
        (place / "Tasks").write_text("#DISBATCH PERENGINE START echo up\necho a\n")
        plan = Plan(str(place / "Tasks"), "Tasks", str(place / "x"), BatchOptions("Tasks"), str(tmp_path), "log")
        with open(place / "Tasks", "rb") as lines:
            plan.per_engine = per_engine.head(lines, "Tasks")
        begin(plan)
        with open(place / "ballast", "wb", 0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        with subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(place / "x_tasklist"), "-n1", "--quiet"],
                              stderr=said, cwd=tmp_path) as runner:
            wait_for(lambda: "until the disk is well" in (tmp_path / "said").read_text(), 30)
            (place / "ballast").unlink()
            assert runner.wait(60) == 0
        assert [(r.flags, r.out) for r in records(place)] == [(" O P", "up\n"), (" O  ", "a\n")]


def test_a_full_disk_is_waited_out_by_who_takes_in_lines(tmp_path: Path) -> None:
    """Each takes a tenth of it, but for the first, which is run before."""
    go = tmp_path / "go"
    (tmp_path / "lines").write_text("".join(f"echo {number}; : {'x' * 100_000}\n" for number in range(1, 20)))
    source = f"echo echo 0; until [[ -e {go} ]]; do sleep 0.05; done; cat {tmp_path}/lines"
    with small_filesystem(tmp_path, "size=1m") as place, open(tmp_path / "said", "wb") as said, \
            subprocess.Popen([*COMMAND, *HERE, "--taskcommand", f"bash -c '{source}'"], cwd=place,
                             stderr=said) as process:
        try:
            wait_for(lambda: (place / "x_status.txt").exists() and brief(place), 30)
            go.touch()
            wait_for(lambda: "until the disk is well" in (tmp_path / "said").read_text(), 30)
            subprocess.run(["mount", "-o", "remount,size=16m", str(place)], check=True)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                process.terminate()
        assert {task: out for task, (_, _, out) in brief(place).items()} == {n: f"{n}\n" for n in range(20)}


# -- a task file that changes -------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [True, False])
def test_the_task_file_changes_and_another_takes_over(tmp_path: Path, gone: bool) -> None:
    (tmp_path / "Tasks").write_text("true\nuntil [[ -e end ]]; do sleep 0.05; done\n#DISBATCH BARRIER\necho last\n")
    with subprocess.Popen([*COMMAND, "-e", "-s", "localhost:2", "-p", "x", "Tasks"], cwd=tmp_path) as process:
        wait_for(lambda: (tmp_path / "x_status.txt").exists() and brief(tmp_path), 30)
        (tmp_path / "Tasks").unlink()
        if not gone:
            (tmp_path / "Tasks").write_text("touch never\n" * 10)
        runner = next((tmp_path / "x_tasklist/doing").iterdir()).name
        os.kill(int(runner.split(".")[1]), signal.SIGKILL)
        (tmp_path / "end").touch()
        assert process.wait(60) == 0
    assert [(r.task, r.line, r.command[:5], r.out) for r in records(tmp_path)] == [
        (0, 1, "true", ""), (1, 2, "until", ""), (2, 3, "#DISB", ""), (3, 4, "echo ", "last\n")]


# -- what people do meanwhile ----------------------------------------------------------------------


def test_what_is_retried_while_it_runs_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("[[ -e go ]] && touch again && until [[ -e end ]]; do sleep 0.05; done\n"
                                    "until [[ -e go ]]; do sleep 0.05; done\n")
    with subprocess.Popen([*COMMAND, "-e", "-s", "localhost:2", "-p", "x", "Tasks"], cwd=tmp_path) as process:
        try:
            wait_for(lambda: (tmp_path / "x_status.txt").exists() and brief(tmp_path), 30)
            subprocess.run([sys.executable, "-m", "runforrest", "pause", "x_tasklist"], cwd=tmp_path, check=True,
                           capture_output=True)
            wait_for(lambda: "paused" in next(tmp_path.glob("x_SSH*.log")).read_text(), 30)
            subprocess.run([sys.executable, "-m", "runforrest", "retry", "x_tasklist", "--all"], cwd=tmp_path,
                           check=True, capture_output=True)
            (tmp_path / "go").touch()
            wait_for(lambda: len(records(tmp_path)) == 2, 30)
            subprocess.run([sys.executable, "-m", "runforrest", "resume", "x_tasklist"], cwd=tmp_path, check=True,
                           capture_output=True)
            wait_for(lambda: (tmp_path / "again").exists(), 30)
        finally:
            (tmp_path / "go").touch()
            (tmp_path / "end").touch()
        assert process.wait(60) == 0
    assert [(r.task, r.code) for r in records(tmp_path)] == [(0, 1), (1, 0), (0, 0)]


def test_the_status_file_tells_what_has_ended_when_all_have_left(tmp_path: Path) -> None:
    """So that nothing of it is run again by who resumes from it."""
    (tmp_path / "Tasks").write_text("touch begun; until [[ -e end ]]; do sleep 0.05; done; sleep 0.5; echo 0\n"
                                    "#DISBATCH BARRIER\nfalse\n")
    with subprocess.Popen([*COMMAND, *HERE, "Tasks"], cwd=tmp_path) as process:
        wait_for(lambda: (tmp_path / "begun").exists(), 30)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "will be finished" in next(tmp_path.glob("x_SSH*.log")).read_text(), 30)
        (tmp_path / "end").touch()
        assert process.wait(60) == 130
    assert brief(tmp_path) == {0: (" O  ", 0, "0\n")}
    assert not (tmp_path / "x_tasklist/doing").exists() and len(list((tmp_path / "x_tasklist/todo").iterdir())) == 1
    assert batch(tmp_path, "-e", *HERE, "Tasks").returncode == 1
    assert sorted((task, code) for task, (_, code, _) in brief(tmp_path).items()) == [(0, 0), (1, 0), (2, 1)]
    assert len(records(tmp_path)) == 3


@pytest.mark.parametrize(("limit", "code"), [(3, 0), (2, 3)])
def test_a_limit_of_tasks_that_is_just_enough(tmp_path: Path, limit: int, code: int) -> None:
    ended = batch(tmp_path, "-C", str(limit), "-s", "localhost:2", "-p", "x", text="echo x >> log\n" * 3)
    assert ended.returncode == code
    assert sorted(brief(tmp_path)) == list(range(limit)) and (tmp_path / "log").read_text() == "x\n" * limit


def test_signals_without_a_name(tmp_path: Path) -> None:
    batch(tmp_path, *HERE, text="kill -34 $$\nkill -40 $$\nkill -64 $$\n")
    assert {task: code for task, (_, code, _) in brief(tmp_path).items()} == {0: -34, 1: -40, 2: -64}


def test_who_has_started_no_host_lists_no_large_folders_while_others_work(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("true\n")
    plan = Plan(f"{tmp_path}/Tasks", "Tasks", f"{tmp_path}/x", BatchOptions(task_file="Tasks"), str(tmp_path), "log")
    folder, _ = begin(plan)
    driver = Driver(folder, plan, print)
    member = spool.Member(folder)
    member.start()
    try:
        assert driver._may_be_done()
        claim = folder.claim(folder.names(layout.TODO)[0], member.membership.runner)
        assert claim is not None and not driver._may_be_done()
        driver.stopped = True
        assert driver._may_be_done(), "who is to stop does not wait for those that may be dead"
        folder.release(claim, member.membership.runner)
    finally:
        member.leave()


# -- DisBatcher --------------------------------------------------------------------------------------


def test_records_of_an_earlier_run_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    batch(tmp_path, *HERE, "-", stdin="echo old\n")
    with DisBatcher(args=["-s", "localhost:1", "-p", f"{tmp_path}/x"]) as batcher, \
            pytest.raises(ProcessError, match="exit code 2"):
        batcher.syncTasks([0])
    with DisBatcher(args=["-s", "localhost:1", "-p", f"{tmp_path}/x", "-r", f"{tmp_path}/x_status.txt"]) as batcher:
        batcher.submit("echo old")
        assert batcher.syncTasks([0])[0]["Flags"] == " O S"


@pytest.mark.parametrize("given", [["-p", "{}"], ["-p{}"], ["-ep", "{}"], ["-eRp{}"], ["--prefix", "{}"],
                                   ["--prefix={}"], ["--pre", "{}"], ["--p={}"], ["-p", "other", "-p", "{}"]])
def test_a_prefix_in_any_spelling(tmp_path: Path, given: list[str]) -> None:
    prefix = f"{tmp_path}/x"
    with DisBatcher(args=["-s", "localhost:1", *(text.format(prefix) for text in given)]) as batcher:
        assert batcher.files.prefix == prefix
    with pytest.raises(InvalidArgument, match="there is no folder"):
        DisBatcher(args=[text.format("no/such/x") for text in given])


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    with DisBatcher(args=["-s", "localhost:1", "-p", f"{tmp_path}/x"]) as batcher:
        batcher.submit(os.fsdecode(b"printf '\xff\xfe' | wc -c"))
        assert batcher.syncTasks([0])[0]["OutData"].strip() == "2"


def test_a_forked_process_does_not_keep_the_batch_from_its_end(tmp_path: Path) -> None:
    """As those of a Pool, which live as long as it does."""
    batcher, ended = DisBatcher(args=["-s", "localhost:1", "-p", f"{tmp_path}/x"]), list[int]()
    pid = os.fork()
    if not pid:
        try:
            with pytest.raises(ProcessError, match="which was forked from it"):
                batcher.submit("true")
            (tmp_path / "refused").touch()
            time.sleep(600)
        finally:
            os._exit(1)
    waiter = threading.Thread(target=lambda: ended.append(batcher.done()))
    try:
        wait_for(lambda: (tmp_path / "refused").exists(), 30)
        batcher.submit("true")
        waiter.start()
        waiter.join(60)
        assert ended == [0] and list(batcher.tid2status) == [0]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        waiter.join()


def test_several_threads_submit_and_wait(tmp_path: Path) -> None:
    count, threads = 40, 6
    taken: list[int] = []
    interval = sys.getswitchinterval()
    with DisBatcher(args=["-s", "localhost:4", "-p", f"{tmp_path}/x"]) as batcher:
        def work(number: int) -> None:
            for _ in range(count):
                batcher.submit("true")
            if number % 2:
                taken.extend(batcher.wait_one_task()["TaskId"] for _ in range(2 * count))

        sys.setswitchinterval(1e-6)
        try:
            workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
        finally:
            sys.setswitchinterval(interval)
    assert sorted(taken) == list(range(count * threads))

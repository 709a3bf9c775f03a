"""`runforrest batch` as a user types it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from runforrest.batch import DisBatcher
from runforrest.errors import ProcessError
from tests.batch.support import batch, brief, records
from tests.helpers import files, wait_for

HERE = ("-s", "localhost:2", "-p", "x")


def test_every_line_is_run_and_recorded(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, text="echo a\n\n# comment\nfalse\n   echo b >&2\nkill -9 $$\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert brief(tmp_path) == {0: (" O  ", 0, "a\n"), 1: ("R   ", 1, ""), 2: ("  E ", 0, ""), 3: ("R   ", -9, "")}
    assert [r.line for r in sorted(records(tmp_path), key=lambda r: r.task)] == [1, 4, 5, 6]
    assert not list((tmp_path / "x_tasklist/todo").iterdir())


def test_the_environment_of_a_task(tmp_path: Path) -> None:
    batch(tmp_path, *HERE, text="#DISBATCH REPEAT 1 start 7 env | grep ^DISBATCH_ | sort > env\n")
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert found.pop("DISBATCH_CYLINDER_RANK") in ("0", "1")
    assert found == {
        "DISBATCH_JOBID": "x", "DISBATCH_NAMETASKS": "Tasks", "DISBATCH_TASKID": "0", "DISBATCH_TASKID_ZP": "000000",
        "DISBATCH_STREAM_INDEX": "1", "DISBATCH_STREAM_INDEX_ZP": "000001", "DISBATCH_REPEAT_INDEX": "7",
        "DISBATCH_REPEAT_INDEX_ZP": "000007", "DISBATCH_ENGINE_RANK": "0", "DISBATCH_CORES_PER_TASK": "1"}


def test_barriers(tmp_path: Path) -> None:
    text = ("until [[ -e log ]]; do sleep 0.05; done; echo 1 >> log\necho 2 >> log\n"
            "#DISBATCH BARRIER here\necho 3 >> log\n#DISBATCH BARRIER CHECK\nfalse\n"
            "#DISBATCH BARRIER\ntrue\n#DISBATCH BARRIER CHECK\nfalse\n"
            "#DISBATCH BARRIER CHECK\necho never >> log\n")
    ended = batch(tmp_path, *HERE, text=text)
    assert ended.returncode == 1 and "line 11" in ended.stderr and "failed before the barrier" in ended.stderr
    assert (tmp_path / "log").read_text().split() == ["2", "1", "3"]
    found = brief(tmp_path)
    assert {n: found[n][0].strip() for n in (2, 4, 6, 8, 10)} == {2: "B", 4: "C", 6: "B", 8: "C", 10: "C"}
    assert (tmp_path / "x_tasklist/batch.keys").read_text() == '{"key": "here", "task": 2}\n'


def test_the_exit_code_tells_of_failures_if_asked(tmp_path: Path) -> None:
    ended = batch(tmp_path, "-e", *HERE, text="true\nfalse\n")
    assert ended.returncode == 1 and "some tasks failed" in ended.stderr
    assert batch(tmp_path, "-e", "-s", "localhost:1", "-p", "y", text="true\n").returncode == 0


def test_fail_fast_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    text = "echo $$ > pid; sleep 600\nuntil [[ -s pid ]]; do sleep 0.05; done; false\ntouch never\n"
    ended = batch(tmp_path, "-f", *HERE, text=text)
    assert ended.returncode == 1 and "--fail-fast" in ended.stderr
    found = brief(tmp_path)
    assert found[1] == ("R   ", 1, "") and found[0][1] == -signal.SIGTERM
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_fail_fast_starts_nothing_more_of_a_long_file(tmp_path: Path) -> None:
    """Thousands of lines are in the list when the failure is seen, which takes back none of what has begun."""
    text = "true\n" * 9 + "exit 3\n" + "sleep 0.1\n" * 30_000
    ended = batch(tmp_path, "-f", "-s", "localhost:2", "-p", "x", text=text)
    found = records(tmp_path)
    [failed] = [r for r in found if r.code == 3]
    assert ended.returncode == 1 and failed.task == 9 and not list((tmp_path / "x_tasklist/todo").iterdir())
    assert len([r for r in found if r.start > failed.finish]) <= 2, "before its guard has told the runner"


def test_what_was_done_is_skipped_and_what_failed_is_run_again(tmp_path: Path) -> None:
    text = "echo 0 >> log\necho 1 >> log; test -e now\n#DISBATCH BARRIER\necho 3 >> log\n"
    batch(tmp_path, *HERE, text=text)
    (tmp_path / "now").touch()
    assert batch(tmp_path, "-r", "x_status.txt", "-p", "y", "-s", "localhost:2", text=text).returncode == 0
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "3"], "all of it was skipped"
    assert [brief(tmp_path, "y")[n][0] for n in (0, 1, 3)] == ["   S", "R  S", "   S"]
    batch(tmp_path, "-r", "y_status.txt", "-R", "-p", "z", "-s", "localhost:2", text=text)
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "1", "3"], "also from a resumed run's file"
    assert [brief(tmp_path, "z")[n][:2] for n in (0, 1, 3)] == [("   S", 0), ("    ", 0), ("   S", 0)]
    ended = batch(tmp_path, "-r", "z_status.txt", "-p", "w", "-s", "localhost:2", text="true\n" + text)
    assert ended.returncode == 1 and "z_status.txt" in ended.stderr and "--force-resume" in ended.stderr


def test_a_prefix_that_is_in_use_loses_no_status_file(tmp_path: Path) -> None:
    batch(tmp_path, *HERE, text="true\n")
    ended = batch(tmp_path, *HERE, text="true\n")
    assert ended.returncode == 2 and "that batch is done" in ended.stderr and len(records(tmp_path)) == 1


def test_a_run_is_resumed_under_its_own_prefix_again_and_again(tmp_path: Path) -> None:
    text = "echo x >> first\n[[ -e second ]]\n"
    batch(tmp_path, *HERE, text=text)
    for number in (1, 2):
        ended = batch(tmp_path, "-R", "-r", "x_status.txt", *HERE, text=text)
        assert ended.returncode == 0 and f"x_tasklist.{number}" in ended.stderr
        assert sorted(flags for flags, _, _ in brief(tmp_path).values()) == ["   S", "R   "]
    (tmp_path / "second").touch()
    batch(tmp_path, "-R", "-r", "x_status.txt", *HERE, text=text)
    assert (tmp_path / "first").read_text() == "x\n" and len(records(tmp_path)) == 2
    assert sorted(flags for flags, _, _ in brief(tmp_path).values()) == ["    ", "   S"]
    assert (tmp_path / "x_status.txt.3").exists() and (tmp_path / "x_tasklist.3" / "done").is_dir()


def test_commands_for_each_engine(tmp_path: Path) -> None:
    text = "#DISBATCH PERENGINE START echo up > up\n#DISBATCH PERENGINE STOP cat up; exit 5\ncat up\n"
    batch(tmp_path, *HERE, text=text)
    kinds = [(r.flags, r.code, r.out) for r in records(tmp_path)]
    assert kinds == [("   P", 0, ""), (" O  ", 0, "up\n"), ("RO P", 5, "up\n")]


def test_commands_of_any_length(tmp_path: Path) -> None:
    """Linux takes no argument above 128 KiB; prefix and suffix may add up to more."""
    comment = f"# {'x' * 100_000}"
    text = f"#DISBATCH PREFIX echo a; : {comment[2:]}; \n#DISBATCH PERENGINE START echo up {comment}\n" \
           f"#DISBATCH PERENGINE STOP echo down {comment}\necho b {comment}\n"
    ended = batch(tmp_path, *HERE, text=text)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = [(r.flags, r.code, r.out) for r in records(tmp_path)]
    assert found == [(" O P", 0, "a\nup\n"), (" O  ", 0, "a\nb\n"), (" O P", 0, "a\ndown\n")]


def test_what_an_engine_runs_at_its_end_may_take_time_and_counts(tmp_path: Path) -> None:
    ended = batch(tmp_path, "-e", *HERE, text="#DISBATCH PERENGINE STOP sleep 1; touch left; exit 6\ntrue\n")
    assert ended.returncode == 1 and (tmp_path / "left").exists()
    assert [(r.flags, r.code) for r in records(tmp_path)] == [("    ", 0), ("R  P", 6)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_what_an_engine_runs_at_its_end_ends_with_it(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "Tasks").write_text("#DISBATCH PERENGINE STOP echo $$ > pid; sleep 600\ntrue\n")
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", *HERE, "Tasks"], cwd=tmp_path) as process:
        pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 30))
        shell = psutil.Process(pid)
        runner = psutil.Process(shell.ppid())
        runner.send_signal(signum)
        psutil.wait_procs([shell, runner], 30)
        assert not shell.is_running() and not runner.is_running()
        process.wait(60)


def test_an_engine_whose_start_fails_takes_no_task(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, text="#DISBATCH PERENGINE START exit 4\ntouch never\n")
    assert ended.returncode == 3 and "PERENGINE START in line 1 ended with exit code 4" in ended.stderr
    assert not (tmp_path / "never").exists()


def test_one_slot_runs_lines_in_order(tmp_path: Path) -> None:
    """Also while who gives them is a member of the list, as the runner has seen by the end of the first."""
    lines = "echo $DISBATCH_TASKID >> order; [[ $DISBATCH_TASKID != 0 ]] || sleep 3\n" * 40
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-s", "localhost:1", "-p", "x", "-"],
                          cwd=tmp_path, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(lines)
        process.stdin.flush()
        wait_for(lambda: (tmp_path / "order").exists() and (tmp_path / "order").read_text().count("\n") == 40, 60)
        process.stdin.close()
        assert process.wait(60) == 0
    assert (tmp_path / "order").read_text().split() == [str(number) for number in range(40)]


def test_lines_are_run_as_they_arrive(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", *HERE, "-"], cwd=tmp_path,
                          stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"echo $DISBATCH_NAMETASKS > one\n")
        process.stdin.flush()
        wait_for(lambda: (tmp_path / "one").exists() and (tmp_path / "one").read_text(), 30)
        wait_for(lambda: brief(tmp_path), 30)
        process.stdin.write(b"touch two")
        process.stdin.close()
        assert process.wait(60) == 0
    assert (tmp_path / "one").read_text() == "stdin\n" and (tmp_path / "two").exists()


def test_what_a_killed_program_has_written_is_run_and_the_runner_leaves(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", *HERE, "-"], cwd=tmp_path,
                          stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"true\nsleep 1; touch late\n")
        process.stdin.flush()
        wait_for(lambda: (tmp_path / "x_status.txt").exists() and brief(tmp_path), 30)
        process.kill()
    wait_for(lambda: "done: 2 succeeded" in (tmp_path / "x_driver.log").read_text(), 60)
    assert (tmp_path / "late").exists() and "is gone" in (tmp_path / "x_driver.log").read_text()
    wait_for(lambda: not (tmp_path / "x_tasklist/doing").exists(), 30, "its runner leaves")


def test_a_task_file_that_can_be_read_only_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Pipe")
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", *HERE, "Pipe"], cwd=tmp_path) as process:
        (tmp_path / "Pipe").write_text("echo $DISBATCH_NAMETASKS\n")
        assert process.wait(60) == 0
    assert brief(tmp_path)[0][2] == "Pipe\n"


@pytest.mark.parametrize(("ending", "code", "said", "third"), [
    ("exit 0", 0, "", {"c\n"}), ("exit 3", 1, "exit code 3", set()), ("kill -9 $$", 1, "exit code -9", set()),
    ("/no/such/program", 1, "exit code 127", set())])
def test_lines_of_another_program(tmp_path: Path, ending: str, code: int, said: str, third: set[str]) -> None:
    """If it fails, its last line is not run if it has no end: it may be half of one."""
    ended = batch(tmp_path, *HERE, "--taskcommand", rf"printf 'echo a\necho b\necho c'; {ending}")
    assert ended.returncode == code and said in ended.stderr
    assert {out for _, _, out in brief(tmp_path).values()} == {"a\n", "b\n"} | third


def test_another_program_that_does_not_start(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, "--taskcommand", "/no/such/program")
    assert ended.returncode == 1 and "exit code 127" in ended.stderr and not brief(tmp_path)


def test_hosts_are_added_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("touch done\n")
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-S", "-p", "x", "Tasks"], cwd=tmp_path,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "add hosts" in process.stdout.readline()
        script = process.stdout.readline().strip()
        assert script == str(tmp_path / "x_dbUtil.sh")
        added = subprocess.run([script, "-s", "localhost:1"], cwd="/", timeout=60)
        assert process.wait(60) == 0 and added.returncode == 0
    assert (tmp_path / "done").exists()


def test_no_two_runners_have_the_same_rank(tmp_path: Path) -> None:
    """Neither one that is added when another has left, nor two that are added at the same moment."""
    line = "touch rank.$DISBATCH_ENGINE_RANK; until [[ -e go ]]; do sleep 0.05; done\n"
    (tmp_path / "Tasks").write_text("touch rank.$DISBATCH_ENGINE_RANK\n#DISBATCH BARRIER\n" + line * 3)
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-S", "-p", "x", "Tasks"], cwd=tmp_path,
                          stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (tmp_path / "x_tasklist/batch.json").exists(), 30)
            add = [tmp_path / "x_dbUtil.sh", "-s", "localhost:1"]
            subprocess.run([*add, "-C", "1"], cwd=tmp_path, timeout=60, check=True)
            added = [subprocess.Popen(add, cwd=tmp_path) for _ in range(3)]
            wait_for(lambda: len(list(tmp_path.glob("rank.*"))) == 4, 30)
        finally:
            (tmp_path / "go").touch()
        assert [each.wait(60) for each in added] == [0, 0, 0] and process.wait(60) == 0
    assert sorted(path.name for path in tmp_path.glob("rank.*")) == [f"rank.{n}" for n in range(4)]


@pytest.mark.parametrize(("options", "retired"), [((), 2), (("-K",), 1), (("--retire-cmd", "true"), 1)])
def test_hosts_that_are_added_retire_in_their_own_way(tmp_path: Path, options: tuple[str, ...], retired: int) -> None:
    (tmp_path / "Tasks").write_text("until [[ -e go ]]; do sleep 0.05; done\n" * 3)
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", *HERE, "--retire-cmd", "echo >> retired",
                           "Tasks"], cwd=tmp_path) as process:
        try:
            wait_for(lambda: len(files(tmp_path, "x_tasklist/doing/*/*")) == 3, 30)   # one is the feeder
            with subprocess.Popen([tmp_path / "x_dbUtil.sh", "-s", "localhost:1", *options], cwd=tmp_path) as added:
                wait_for(lambda: len(files(tmp_path, "x_tasklist/doing/*/*")) == 4, 30)
                (tmp_path / "go").touch()
                assert added.wait(60) == 0
        finally:
            (tmp_path / "go").touch()
        assert process.wait(60) == 0
    assert (tmp_path / "retired").read_text() == "\n" * retired


def test_what_is_put_back_by_hand_and_done_then_has_a_second_record(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("[[ -e go ]]\nuntil [[ -e end ]]; do sleep 0.05; done\n")
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-e", *HERE, "Tasks"], cwd=tmp_path) as process:
        try:
            wait_for(lambda: (tmp_path / "x_status.txt").exists() and brief(tmp_path), 30)
            (tmp_path / "go").touch()
            subprocess.run([sys.executable, "-m", "runforrest", "retry", "x_tasklist", "--all"], cwd=tmp_path,
                           check=True, capture_output=True)
            wait_for(lambda: len(records(tmp_path)) == 2, 30)
        finally:
            (tmp_path / "end").touch()
        assert process.wait(60) == 0
    assert [(r.task, r.line, r.code, r.command) for r in records(tmp_path)][:2] == [
        (0, 1, 1, "[[ -e go ]]"), (0, 1, 0, "[[ -e go ]]")]


def test_the_host_of_the_feeder_is_given_back_while_others_work(tmp_path: Path) -> None:
    text = "until [[ -e go$DISBATCH_ENGINE_RANK ]]; do sleep 0.05; done; echo $DISBATCH_ENGINE_RANK\n"
    (tmp_path / "Tasks").write_text(text * 2)
    started = [subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-S", "-p", "x", "Tasks"], cwd=tmp_path,
                                stdout=subprocess.DEVNULL)]
    run = [sys.executable, "-m", "runforrest", "run", "x_tasklist", "-n", "1", "--leave-when-dry", "--quiet"]
    try:
        wait_for(lambda: (tmp_path / "x_dbUtil.sh").exists(), 30)
        for rank in "01":
            env = {**os.environ, "DISBATCH_ENGINE_RANK": rank}
            started.append(subprocess.Popen(run, cwd=tmp_path, env=env))
            wait_for(lambda: len(holders(tmp_path / "x_tasklist", "task")) == len(started) - 1, 30)
        first = holders(tmp_path / "x_tasklist", "feeder")
        (tmp_path / "go0").touch()
        assert started[1].wait(60) == 0 and started[2].poll() is None
        wait_for(lambda: holders(tmp_path / "x_tasklist", "feeder") - first, 30, "it is taken over")
        (tmp_path / "go1").touch()
        assert [process.wait(60) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert sorted(out for _, _, out in brief(tmp_path).values()) == ["0\n", "1\n"]


def holders(folder: Path, what: str) -> set[str]:
    """The runners that hold the feeder, or that hold tasks."""
    return {path.parent.name for path in files(folder, "doing/*/*")
            if path.suffix == ".pkl" and ("-feeder." in path.name) == (what == "feeder")}


def test_a_limit_of_tasks_for_the_hosts(tmp_path: Path) -> None:
    ended = batch(tmp_path, "-C", "2", *HERE, text="echo x >> log\n" * 5)
    assert ended.returncode == 3 and "goes on" in ended.stderr
    assert len((tmp_path / "log").read_text().split()) == 2
    on = subprocess.run([sys.executable, "-m", "runforrest", "run", "x_tasklist", "-n", "1"], cwd=tmp_path, timeout=60,
                        capture_output=True)
    assert on.returncode == 0 and len(brief(tmp_path)) == 5


def test_ctrl_c_finishes_what_runs_and_the_rest_can_go_on(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("touch begun; until [[ -e go ]]; do sleep 0.05; done; touch first\n"
                                    + "touch second\n" * 3)
    with subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-s", "localhost:1", "-p", "x", "Tasks"],
                          cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (tmp_path / "begun").exists(), 30)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "1 running task will be finished" in next(tmp_path.glob("x_SSH*.log")).read_text(), 30)
        (tmp_path / "go").touch()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130 and "nothing new is started" in said
    assert (tmp_path / "first").exists() and not (tmp_path / "second").exists()
    subprocess.run([sys.executable, "-m", "runforrest", "run", "x_tasklist"], cwd=tmp_path, timeout=60, check=True,
                   capture_output=True)
    assert [code for _, code, _ in brief(tmp_path).values()] == [0] * 4


def test_ctrl_c_at_the_one_that_began_it_stops_the_hosts_that_were_added(tmp_path: Path) -> None:
    (tmp_path / "Tasks").write_text("touch begun; sleep 600\n")
    begun = subprocess.Popen([sys.executable, "-m", "runforrest", "batch", "-S", "-p", "x", "Tasks"], cwd=tmp_path,
                             stdout=subprocess.DEVNULL)
    added = None
    try:
        wait_for(lambda: (tmp_path / "x_dbUtil.sh").exists(), 30)
        added = subprocess.Popen([tmp_path / "x_dbUtil.sh", "-s", "localhost:1"], cwd=tmp_path)
        wait_for(lambda: (tmp_path / "begun").exists(), 30)
        begun.send_signal(signal.SIGTERM)
        assert begun.wait(60) == 143 and added.wait(60) == 0
    finally:
        for process in filter(None, (begun, added)):
            process.kill()
            process.wait()
    assert len(list((tmp_path / "x_tasklist/todo").iterdir())) == 2 and not (tmp_path / "x_tasklist/doing").exists()


@pytest.mark.parametrize(("text", "arguments", "said"), [
    ("true\n#DISBATCH REPAET 3\n", (), "line 2"), (None, ("nofile",), "nofile can't be read"),
    ("true\n", ("-s", "localhost"), "HOST:CORES"), ("true\n", ("-c", "0"), "positive"),
    ("true\n", ("--mailFreq", "3"), "--mailTo"), ("true\n", ("-p", "no/x"), "there is no folder"),
    ("true\n", ("--logfile", "no/x"), "there is no folder"),
    ("true\n", ("--taskserver", "-"), "exactly one"), (None, (), "exactly one")])
def test_bad_input_is_told_before_anything_runs(tmp_path: Path, text: str | None, arguments: tuple[str, ...],
                                               said: str) -> None:
    ended = batch(tmp_path, *arguments, text=text)
    assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("*_tasklist"))


def test_options_that_are_not_needed_say_so(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, "--use-address", "localhost:0", "--kvsserver", "a:1", text="true\n")
    assert ended.returncode == 0 and ended.stderr.count("is not needed") == 2


def test_long_options_may_be_abbreviated(tmp_path: Path) -> None:
    ended = batch(tmp_path, "--exit-c", "-slocalhost:2", "--pref=x", "--status-h", "-eR", text="false\n")
    assert ended.returncode == 1 and (tmp_path / "x_status.txt").read_text().startswith("ROE[ PSZ]\tTaskID")
    assert "No such option '--st'" in batch(tmp_path, "--st", "Tasks").stderr


def test_an_empty_file(tmp_path: Path) -> None:
    ended = batch(tmp_path, *HERE, text="# nothing\n")
    assert ended.returncode == 0 and "No tasks to run." in ended.stderr and not records(tmp_path)


def test_no_tasks_to_run_leave_what_was_to_be_resumed(tmp_path: Path) -> None:
    """Though the new status file, which is empty, takes its place."""
    assert batch(tmp_path, *HERE, text="true\n").returncode == 0
    old = (tmp_path / "x_status.txt").read_text()
    ended = batch(tmp_path, *HERE, "-r", "x_status.txt", text="# nothing\n")
    assert ended.returncode == 0 and f" and {tmp_path}/x_status.txt.1\n" in ended.stderr, ended.stderr
    assert old and (tmp_path / "x_status.txt.1").read_text() == old and not records(tmp_path)


def test_values_are_dealt_out_to_slots(tmp_path: Path) -> None:
    meet = "echo $GPUS; touch met.$DISBATCH_TASKID; until [[ $(ls met.* | wc -l) -ge %d ]]; do sleep 0.05; done\n"
    text = meet % 2 * 2 + meet % 4 * 2              # two at a time
    batch(tmp_path, "-E", "GPUS", *HERE, text=text, env={"GPUS": "a,b"})
    assert sorted(out for _, _, out in brief(tmp_path).values()) == ["a\n", "a\n", "b\n", "b\n"]


# -- from a program ----------------------------------------------------------------------------


def test_a_program_submits_waits_and_asks(tmp_path: Path) -> None:
    with DisBatcher(args=["-s", "localhost:2", "-p", f"{tmp_path}/x"]) as batcher:
        batcher.submit("echo $DISBATCH_NAMETASKS")
        batcher.submit("exit 3")
        found = batcher.syncTasks([0, 1])
        assert [found[n]["ReturnCode"] for n in (0, 1)] == [0, 3] and found[0]["OutData"] == "STREAM\n"
        assert batcher.syncTasks([1]) == {1: found[1]}, "again"
        batcher.submit(["sleep 0.2", "#DISBATCH BARRIER passed", "true\ntrue"])
        assert batcher.kvs.get("passed", False) == b"3"
        assert {batcher.wait_one_task()["TaskId"] for _ in range(3)} == {2, 4, 5}
    assert sorted(batcher.tid2status) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ProcessError, match="no record of"):
        batcher.syncTasks([9])


# -- whoever dies ------------------------------------------------------------------------------


@pytest.mark.slow
def test_runners_are_killed_and_the_status_file_is_complete(tmp_path: Path, tried: object) -> None:
    """The runner that feeds is killed again and again: another takes over where it stopped."""
    from runforrest.batch.begin import begin
    from runforrest.batch.options import BatchOptions
    from runforrest.batch.plan import Plan
    count, log = 1500, tmp_path / "log"
    lines = [f"echo {n} >> {log}" for n in range(count)]
    (tmp_path / "Tasks").write_text("\n".join([*lines[:1000], "#DISBATCH BARRIER", *lines[1000:]]))
    begin(Plan(str(tmp_path / "Tasks"), "Tasks", str(tmp_path / "x"), BatchOptions(task_file="Tasks"), str(tmp_path),
               str(tmp_path / "x_driver.log")))
    directory, killed = tmp_path / "x_tasklist", 0

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(directory), "-n", "1", "--quiet"])

    runners = [start(), start()]
    try:
        while any(runner.poll() is None for runner in runners):
            time.sleep(0.8)
            feeding = files(directory, "doing/*/*-feeder.*")
            if feeding and killed < 4:
                pid = int(feeding[0].parent.name.split(".")[1])
                os.kill(pid, signal.SIGKILL)
                killed += 1
                runners.append(start())
    finally:
        for runner in runners:
            runner.kill()
            runner.wait()
    found = records(tmp_path)
    assert sorted(r.task for r in found) == list(range(count + 1)), "each once"
    ran = log.read_text().split()
    assert len(ran) - len(set(ran)) <= 2 * killed, "but for what ran when its runner was killed, each ran once"
    barrier = next(n for n, r in enumerate(found) if r.flags.strip() == "B")
    assert sorted(r.task for r in found[:barrier]) == list(range(1000))
    tried("runners killed that fed a batch", killed)  # type: ignore[operator]

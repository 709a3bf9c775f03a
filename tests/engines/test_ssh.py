"""Hosts behind real sshds, each with a network, a host name and processes of its own."""

from __future__ import annotations

import glob
import os
import shlex
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest import Command, TaskList
from runforrest.engines import Ended, Engine, ssh, starts
from tests.cli.programs import ROOT
from tests.engines.support import SECONDS, Driver, Hosts, Ticking
from tests.helpers import wait_for
from tests.runner.support import counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
HERE = socket.gethostname()
IMPATIENT = "-oServerAliveInterval=2 -oServerAliveCountMax=4"


@pytest.fixture
def folder(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tasklist_dir.parent


def an_engine(directory: Path, nodes: str, **environment: str) -> Engine:
    places, prefix = ssh.places([nodes]), str(directory.parent / "p q")
    return ssh.engine(starts(places, str(directory), prefix, "SSH0", [], environment))


def by_node(found: list[Ended]) -> dict[str, Ended]:
    return {each.start.node: each for each in found}


def test_several_hosts_and_quoting(hosts: Hosts, folder: Path, tried: Callable[[str, int], None]) -> None:
    directory = folder / "it's a \"list\" $x"
    tasks = TaskList(directory)
    for _ in range(30):
        line = 'echo "$(uname -n) $DISBATCH_ENGINE_RANK $DISBATCH_CORES_PER_TASK $MORE"'
        tasks.schedule(Command(f'sleep 0.1; {line} >>"{folder}/seen"'))
    tasks.flush()
    with an_engine(directory, "localhost:1,host1:2,host2:2,host3:1", MORE="'1' \"2\" $3 \\") as engine:
        found = engine.wait(SECONDS)
    assert {node: each.code for node, each in by_node(found).items()} == dict.fromkeys(
        [HERE, "host1", "host2", "host3"], 0)
    seen = (folder / "seen").read_text().splitlines()
    assert len(seen) == 30
    assert set(seen) <= {f"{host} {rank} 1 '1' \"2\" $3 \\" for rank, host in enumerate([HERE, *hosts.names])}
    assert len(set(seen)) >= 3, "several hosts had a share"
    tried("tasks run by runners on hosts behind ssh", len(seen))
    assert sorted(file.name for file in folder.glob("p q_*")) == sorted(
        f"p q_SSH0_{host}_{rank}.log" for rank, host in enumerate([HERE, *hosts.names]))


def test_hosts_that_can_not_be_reached(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer, one that is not known; the others go on."""
    tasks = Ticking(folder / "tasks", 4)
    monkeypatch.setenv("RUNFORREST_SSH", f"{hosts.program} -oConnectTimeout=8")
    hosts.cut("host2")
    with an_engine(tasks.directory, "host1:1,host2:1,no-such-host.invalid:1") as engine:
        found = by_node(engine.wait(SECONDS))
    assert {node: (each.code, each.failed, each.lost) for node, each in found.items()} == {
        "host1": (0, False, False), "host2": (255, True, False), "no-such-host.invalid": (255, True, False)}
    assert "imed out" in str(found["host2"]) or "closed" in str(found["host2"]).lower()
    assert set(tasks.finished().values()) == {"host1"}


def test_a_host_that_wants_a_password(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = folder / "config"
    private.write_text((hosts.part.folder / "ssh_config").read_text().replace("IdentityFile", "#"))
    monkeypatch.setenv("RUNFORREST_SSH", f"ssh -F {private} -oIdentityFile=/nowhere -oIdentityAgent=none")
    tasks = Ticking(folder / "tasks", 1)
    with an_engine(tasks.directory, "host1:1") as engine:
        [found] = engine.wait(SECONDS)
    assert found.code == 255 and "Permission denied" in str(found)


def test_what_goes_wrong_over_there(hosts: Hosts, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1)
    [place] = ssh.places(["host1:1"])
    no_python = starts([place], str(tasks.directory), str(folder / "a"), "L", python="/no/python")
    no_list = starts([place], str(folder / "none"), str(folder / "b"), "L")
    no_cwd = starts([place], str(tasks.directory), str(folder / "c"), "L", cwd="/no/folder")
    no_log = starts([place], str(tasks.directory), str(folder / "no" / "d"), "L")
    with ssh.engine([*no_python, *no_list, *no_cwd, *no_log]) as engine:
        found = sorted(engine.wait(SECONDS), key=lambda each: each.start.log)
    assert all(each.failed and not each.lost for each in found)
    for each, text in zip(found, ["/no/python", "none", "/no/folder", "no/d"], strict=True):
        assert text in each.said


def over_there(hosts: Hosts, program: Path, line: str) -> str:
    """A program in place of ssh, with which each host's login shell does this."""
    program.write_text(f"#!/bin/bash\nexec {hosts.program} \"${{@:1:$#-1}}\" {shlex.quote(line)}\n")
    program.chmod(0o755)
    return str(program)


def test_a_login_shell_that_reads_what_the_runner_is_told(hosts: Hosts, folder: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFORREST_SSH", over_there(hosts, folder / "ssh", "cat >/dev/null; exec /bin/sh"))
    with an_engine(Ticking(folder / "tasks", 1).directory, "host1:1") as engine:
        [found] = engine.wait(SECONDS)
    assert (found.code, found.failed, found.lost) == (255, True, False)
    assert "has not run what it was given" in str(found)


def test_a_python_without_runforrest(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Ticking(folder / "tasks", 1)
    [start] = starts(ssh.places(["host1:1"]), str(tasks.directory), str(folder / "a"), "L", python="/usr/bin/python3",
                     environment={"PYTHONPATH": ""}, cwd="/")
    with ssh.engine([start]) as engine:
        [found] = engine.wait(SECONDS)
    assert (found.code, found.failed) == (127, True)
    assert "No module named" in str(found)


@pytest.mark.parametrize("now, code", [(False, 4), (True, 4)])
def test_stop_behind_a_banner(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch, now: bool,
                              code: int) -> None:
    """It does not end with a newline, and takes its time."""
    monkeypatch.setenv("RUNFORREST_SSH", over_there(hosts, folder / "ssh", "printf 'Hello> '; sleep 1; exec /bin/sh"))
    test_stop(hosts, folder, now, code)


@pytest.mark.parametrize("now, code", [(False, 4), (True, 4)])
def test_stop(hosts: Hosts, folder: Path, now: bool, code: int) -> None:
    tasks = Ticking(folder / "tasks", 4, SECONDS)
    driver = Driver("ssh", tasks.directory, folder / "x", nodes=["host1:1,host2:1"], arguments=[])
    with driver.started() as program:
        tasks.await_begun("host1")
        tasks.await_begun("host2")
        program.send_signal(signal.SIGTERM if now else signal.SIGINT)
        if not now:
            for log in ("x_L_host1_0.log", "x_L_host2_1.log"):
                wait_for(lambda log=log: "asked to stop" in (folder / log).read_text(), SECONDS, f"{log} tells of it")
            tasks.enough()
        assert program.wait(SECONDS) == 0, driver.said()
    assert {(end["code"], end["failed"]) for end in driver.ends().values()} == {(code, False)}
    done = 0 if now else 2
    assert counts(tasks.directory) == {"todo": 4 - done, "doing": 0, "done": done, "fail": 0}
    assert list((tasks.directory / ".runforrest").glob("requests/*")) == []


def test_runners_do_without_who_started_them(hosts: Hosts, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 3, SECONDS)
    driver = Driver("ssh", tasks.directory, folder / "x", nodes=["host1:1"])
    with driver.started() as program:
        tasks.await_begun("host1")
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    tasks.enough()
    wait_for(lambda: counts(tasks.directory)["done"] == 3, SECONDS, "the runner goes on to the end of the list")
    assert set(tasks.finished().values()) == {"host1"}
    wait_for(lambda: "runforrest" not in hosts.run("host1", "ps ax"), SECONDS, "nothing is left there")


def test_a_host_without_power(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks come back to the others, and that it is gone is told."""
    monkeypatch.setenv("RUNFORREST_SSH", f"{hosts.program} {IMPATIENT}")
    tasks = Ticking(folder / "tasks", 6, SECONDS)
    driver = Driver("ssh", tasks.directory, folder / "x", nodes=["host1:1,host2:2"])
    with driver.started() as program:
        tasks.await_begun("host1")
        tasks.await_begun("host2", 2)
        hosts.power_off("host2")
        tasks.enough()
        assert program.wait(SECONDS) == 0, driver.said()
    ends = driver.ends()
    assert ends["host1"]["code"] == 0
    assert (ends["host2"]["code"], ends["host2"]["failed"], ends["host2"]["lost"]) == (255, True, True)
    assert "can't be reached any more" in ends["host2"]["text"]
    assert set(tasks.finished().values()) == {"host1"}
    assert tasks.counts("lost") == 2


def test_a_killed_runner_is_not_a_lost_one(hosts: Hosts, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    driver = Driver("ssh", tasks.directory, folder / "x", nodes=["host1:1"])
    with driver.started() as program:
        tasks.await_begun("host1")
        hosts.run("host1", "pkill -KILL -f 'runforrest run'")
        assert program.wait(SECONDS) == 0, driver.said()
    end = driver.ends()["host1"]
    assert (end["code"], end["failed"], end["lost"]) == (-9, True, False)


def test_a_lost_connection(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner, which can still reach the list, goes on; and it can still be asked to leave."""
    monkeypatch.setenv("RUNFORREST_SSH", f"{hosts.program} {IMPATIENT}")
    tasks = Ticking(folder / "tasks", 3, SECONDS)
    engine = an_engine(tasks.directory, "host1:1")
    engine.start()
    tasks.await_begun("host1")
    hosts.cut("host1")
    [found] = engine.wait(SECONDS)
    assert found.lost and found.code == 255
    engine.stop()
    wait_for(lambda: "asked to stop" in (folder / "p q_SSH0_host1_0.log").read_text(), SECONDS)
    tasks.enough()
    wait_for(lambda: not glob.glob(f"{tasks.directory}/.runforrest/hb/*"), SECONDS, "the runner has left")
    assert counts(tasks.directory)["todo"] == 2
    engine.close()
    hosts.heal("host1")

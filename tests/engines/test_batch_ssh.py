"""Batches on hosts behind real sshds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch.support import records
from tests.cli.programs import ROOT
from tests.cli.programs import runforrest as runforrest_command
from tests.engines.batches import BEFORE, DEADLY, LONG, UNTIL_ENOUGH, Batch
from tests.engines.support import SECONDS, Hosts
from tests.helpers import wait_for
from tests.runner.support import counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
HERE = socket.gethostname()
IMPATIENT = "-oServerAliveInterval=2 -oServerAliveCountMax=4 -oConnectTimeout=8"


@pytest.fixture
def folder(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tasklist_dir.parent)
    return tasklist_dir.parent


def test_hosts_are_missing_and_die(hosts: Hosts, folder: Path, monkeypatch: pytest.MonkeyPatch,
                                   tried: Callable[[str, int], None]) -> None:
    """One can't be reached from the beginning, and the one that feeds dies; the third does all."""
    monkeypatch.setenv("RUNFORREST_SSH", f"{hosts.program} {IMPATIENT}")
    hosts.cut("host3")
    batch = Batch(folder, BEFORE + [UNTIL_ENOUGH] * 8, "-s", "host1:2,host2:2,host3:2")
    with batch.started() as program:
        wait_for(lambda: batch.begun("host1") == batch.begun("host2") == 2, SECONDS, "both have all that they can run")
        victim = wait_for(batch.feeding, SECONDS)
        hosts.power_off(victim)
        batch.enough()
        assert program.wait(LONG) == 0, batch.said()
    assert batch.hosts(len(BEFORE)) == {"host1", "host2"} - {victim}
    assert batch.attempts() == 8 + 2
    assert "on host3 ended with exit code 255" in batch.said() and f"on {victim} can't be reached" in batch.said()
    tried("ssh hosts that a batch has lost", 2)


def test_commands_for_each_engine(hosts: Hosts, folder: Path) -> None:
    """One record of each from each host, before and after its tasks."""
    head = "#DISBATCH PERENGINE START uname -n\n#DISBATCH PERENGINE STOP uname -n; echo $DISBATCH_ENGINE_RANK\n"
    batch = Batch(folder, [UNTIL_ENOUGH] * 6, "-s", ",".join(f"{host}:1" for host in hosts.names), head=head)
    with batch.started() as program:
        batch.await_begun(*hosts.names)
        batch.enough()
        assert program.wait(SECONDS) == 0 and batch.said() == ""
    assert batch.hosts() == set(hosts.names)
    found = records(folder)
    for host in hosts.names:
        kinds = [record.kind for record in found if record.node == host]
        assert (kinds[0], kinds[-1], kinds.count("P")) == ("P", "P", 2)
    said = sorted(record.out for record in found if record.kind == "P")
    assert said == sorted(text for rank, host in enumerate(hosts.names) for text in (f"{host}\n", f"{host}\n{rank}\n"))


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c(hosts: Hosts, folder: Path, twice: bool) -> None:
    """Once: what runs is finished.  Twice: it is put back.  The rest can be run later."""
    batch = Batch(folder, [f"{UNTIL_ENOUGH}; sleep 3"] * 6, "-s", "host1:1,host2:1")
    with batch.started() as program:
        batch.await_begun("host1", "host2")
        program.send_signal(signal.SIGINT)
        wait_for(lambda: "once more" in batch.said(), SECONDS)
        if twice:
            program.send_signal(signal.SIGINT)
        else:
            batch.enough()
        assert program.wait(SECONDS) == 130, batch.said()
    assert "the rest is in its task list" in batch.said()
    begun, found = batch.attempts(), counts(batch.directory)
    assert begun < 6 and found == {"todo": 7 - found["done"], "doing": 0, "done": 0 if twice else begun, "fail": 0}
    batch.enough()
    assert runforrest_command("run", batch.directory, "-n", 6).returncode == 0
    batch.complete()
    assert batch.attempts() == 6 + (begun if twice else 0)


def test_the_starter_is_killed(hosts: Hosts, folder: Path) -> None:
    batch = Batch(folder, BEFORE + [UNTIL_ENOUGH] * 6, "-s", "host1:1,host2:1")
    with batch.started() as program:
        batch.await_begun("host1", "host2")
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    batch.enough()
    wait_for(lambda: not batch.at_work(), LONG, "the runners go on to the end, and leave")
    assert batch.hosts(len(BEFORE)) == {"host1", "host2"} and batch.attempts() == 6
    for host in ("host1", "host2"):
        wait_for(lambda host=host: "runforrest" not in hosts.run(host, "ps ax"), SECONDS, "nothing is left there")


def test_a_host_is_added_while_it_runs(hosts: Hosts, folder: Path) -> None:
    batch = Batch(folder, [UNTIL_ENOUGH] * 8, "-s", "host1:1")
    with batch.started() as program:
        batch.await_begun("host1")
        hosts.part("boot", "host4")
        try:
            add = [f"{batch.prefix}_dbUtil.sh", "-s", "host4:2"]
            with subprocess.Popen(add, cwd="/", stdin=subprocess.DEVNULL) as added:
                wait_for(lambda: batch.begun("host4") == 2, SECONDS, "it begins two tasks")
                batch.enough()
                assert program.wait(SECONDS) == 0 and added.wait(SECONDS) == 0
        finally:
            hosts.part("crash", "host4")
    assert batch.hosts() == {"host1", "host4"}
    assert [path.name for path in folder.glob("x_*_host4_1.log")] == ["x_SSH1_host4_1.log"]


@pytest.mark.parametrize("given_back", [False, True])
def test_all_runners_are_killed(hosts: Hosts, folder: Path, given_back: bool) -> None:
    """One is started again, once, if its host was not given back."""
    batch = Batch(folder, [DEADLY] * 4, "-s", "host1:1,host2:1", *(["-k", "true"] if given_back else []))
    with batch.started() as program:
        assert program.wait(SECONDS) == (3 if given_back else 0), batch.said()
    assert batch.said().count("is started again") == (0 if given_back else 1)
    assert ("no runner is left" in batch.said()) == given_back
    if given_back:
        (folder / f"killed.{HERE}").mkdir()
        assert runforrest_command("run", batch.directory, "-n", 1).returncode == 0
    assert batch.attempts() == 6 and len(batch.hosts()) == 1


def test_hosts_that_are_not_needed_are_told(hosts: Hosts, folder: Path) -> None:
    """At once, while another works on, also the one that feeds.  The first one stays."""
    batch = Batch(folder, [UNTIL_ENOUGH] * 3, "-s", "host1:1,host2:1,host3:1",
                  "-k", 'echo "$NODES|$RETCODES|$ACTIVE|$RETIRED" >>retired')
    with batch.started() as program:
        batch.await_begun(*hosts.names)
        idle, busy = batch.idle("host1", "host2", "host3")
        batch.enough(idle)
        wait_for(lambda: (folder / "retired").exists(), SECONDS, "it is called")
        batch.enough()
        assert program.wait(SECONDS) == 0
    lines = (folder / "retired").read_text().splitlines()
    assert lines[0] == f"{idle}|0|{','.join(busy)}|{idle}"
    assert sorted(host for line in lines for host in line.split("|")[0].split(",")) == hosts.names
    assert lines[-1].split("|")[2] == ""

"""Batches in a real Slurm: in an allocation, and with runners that are jobs of their own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import ROOT
from tests.cli.programs import runforrest as runforrest_command
from tests.engines.batches import BEFORE, BRIEFLY, DEADLY, LONG, TRACE, UNTIL_ENOUGH, Batch
from tests.engines.support import SECONDS, Cluster
from tests.helpers import files, wait_for
from tests.runner.support import counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
ONE_EACH = ("--nodes=3", "--ntasks-per-node=1")
ALL_AT_ONCE = f"{TRACE}; until [ $(ls log | wc -l) -ge %d ]; do sleep 0.1; done; "


@pytest.fixture
def folder(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tasklist_dir.parent)
    return tasklist_dir.parent


def put_back(batch: Batch, number: int) -> None:
    """So many tasks are waiting again, and the feeder; nobody is at work, and no attempt was counted."""
    wait_for(lambda: not files(batch.directory, "doing/*/*"), LONG, "all has been put back")
    assert counts(batch.directory)["todo"] == number + 1, batch.said()
    assert ".lost" not in " ".join(path.name for path in batch.directory.glob("todo/*"))


def nodes(cluster: Cluster, job: str) -> list[str]:
    """That a job has."""
    return cluster.run("scontrol", "show", "hostnames", cluster.fields(job)["NodeList"]).split()


# -- in an allocation --------------------------------------------------------------------------


def test_each_node_has_its_share(cluster: Cluster, folder: Path, tried: Callable[[str, int], None]) -> None:
    """With two slots and two GPUs each; all of the tasks are at work at the same time."""
    words = "$(uname -n) $SLURMD_NODENAME $DISBATCH_ENGINE_RANK $DISBATCH_CYLINDER_RANK $DISBATCH_CORES_PER_TASK"
    line = ALL_AT_ONCE % 6 + f"echo {words} $CUDA_VISIBLE_DEVICES $GPU_DEVICE_ORDINAL"
    batch = Batch(folder, [line] * 6, "-g")
    job = cluster.submit(batch, "--nodes=3", "--ntasks-per-node=2", "--cpus-per-task=2", "--gres=gpu:2")
    cluster.await_state(job, "COMPLETED", "FAILED")
    assert cluster.state(job) == "COMPLETED" and batch.said() == "", batch.said()
    found = batch.complete()
    assert sorted(record.out for record in found.values()) == [
        f"node{k} node{k} {k - 1} {slot} 2 {slot} {slot}\n" for k in (1, 2, 3) for slot in (0, 1)]
    assert all(record.out.startswith(f"{record.node} ") for record in found.values())
    assert sorted(file.name for file in folder.glob("x_J*")) == [f"x_J{job}_node{k}_{k - 1}.log" for k in (1, 2, 3)]
    tried("tasks of a batch run on Slurm's nodes", len(found))


@pytest.mark.parametrize("options, slots, cores", [
    ((), 1, 4), (("-c", "1"), 1, 1), (("-t", "3"), 3, 1), (("--fill", "-c", "2"), 2, 2)])
def test_slots(cluster: Cluster, folder: Path, options: tuple[str, ...], slots: int, cores: int) -> None:
    """From outside of the nodes, with salloc; of four CPUs each, and one task."""
    batch = Batch(folder, [f"{ALL_AT_ONCE % (slots * 2)} echo $DISBATCH_CORES_PER_TASK"] * slots * 2, *options)
    cluster.run("salloc", "--quiet", "--nodes=2", "--ntasks=2", "--exclusive", *batch.command)
    found = batch.complete().values()
    assert {record.out for record in found} == {f"{cores}\n"}
    assert sorted(record.node for record in found) == ["node1"] * slots + ["node2"] * slots


def test_nodes_die_in_mid_run(cluster: Cluster, folder: Path, tried: Callable[[str, int], None]) -> None:
    """The one that was to stay to the end, and the one that feeds; the last one does the rest."""
    batch = Batch(folder, BEFORE + [UNTIL_ENOUGH] * 6)
    batch.command = ["salloc", "--quiet", "--no-kill", *ONE_EACH, *batch.command]
    with batch.started() as program:
        batch.await_begun(*cluster.nodes)
        victims = {cluster.nodes[0], wait_for(batch.feeding, SECONDS)}
        for node in sorted(victims):
            cluster.power_off(node)
        wait_for(lambda: batch.at_work().isdisjoint(victims), LONG, "they are missed")
        batch.enough()
        assert program.wait(LONG) == 0, batch.said()
    assert not victims & batch.hosts(len(BEFORE))
    assert batch.attempts() == 6 + len(victims)
    tried("nodes switched off under a batch", len(victims))


def test_all_runners_are_killed(cluster: Cluster, folder: Path) -> None:
    """By their tasks; one is started again, and does what came back."""
    batch = Batch(folder, [DEADLY] * 6)
    job = cluster.submit(batch, *ONE_EACH)
    cluster.await_state(job, "COMPLETED", "FAILED")
    assert cluster.state(job) == "COMPLETED", batch.said()
    assert batch.said().count("was killed by signal 9") == 3 and batch.said().count("is started again") == 1
    assert len(batch.hosts()) == 1 and batch.attempts() == 9


def test_srun_refuses(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "options").write_text("SLURM_GRES=gpu:99\n")
    monkeypatch.setenv("DISBATCH_SLURM_SRUN_OPTIONS_FILE", str(folder / "options"))
    batch = Batch(folder, [UNTIL_ENOUGH])
    cluster.await_state(cluster.submit(batch, *ONE_EACH), "FAILED")
    assert batch.said().count("srun: error") >= 3 and batch.said().count("runner ") >= 3, batch.said()
    assert batch.said().count("no runner is left") == 1


@pytest.mark.parametrize("how", ["scancel", "notice", "limit"])
def test_the_job_ends_before_the_batch(cluster: Cluster, folder: Path, how: str) -> None:
    """What runs is put back uncounted; a runner finishes the batch, and so does another one by its status file."""
    lines = BEFORE + [UNTIL_ENOUGH] * 5
    batch = Batch(folder, lines)
    job = cluster.submit(batch, "--time=30", *ONE_EACH)
    batch.await_begun(*cluster.nodes)
    if how == "scancel":
        cluster.run("scancel", job)
    elif how == "notice":
        cluster.run("scancel", "--batch", "--signal=USR1", job)
    else:
        cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")
    state, code = {"scancel": ("CANCELLED", ""), "notice": ("FAILED", "4:0"), "limit": ("TIMEOUT", "")}[how]
    cluster.await_state(job, state)
    assert code in cluster.fields(job)["ExitCode"]
    put_back(batch, 5)
    assert "the rest is in its task list" in batch.said()
    batch.enough()
    if how == "scancel":
        resumed = Batch(folder, lines, "-r", "x_status.txt", "-s", "localhost:2", name="y")
        assert resumed.again().returncode == 0
        assert [n for n, record in sorted(resumed.complete().items()) if record.kind == "S"] == [0, 1, 2]
    assert runforrest_command("run", batch.directory, "-n", 2).returncode == 0
    batch.complete()


@pytest.mark.parametrize("dies", [False, True])
def test_requeue(cluster: Cluster, folder: Path, dies: bool) -> None:
    """The job's second start goes on with what the first one began; also where the node of the first one has died."""
    batch = Batch(folder, BEFORE + [UNTIL_ENOUGH] * 5)
    job = cluster.submit(batch, "--requeue", "--open-mode=append", "--nodes=2", "--ntasks-per-node=1")
    batch.await_begun("node1", "node2")
    if dies:
        cluster.power_off("node1")
        cluster.run("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=died")
        wait_for(lambda: "node2" not in batch.at_work(), SECONDS, "the other puts its task back")
    else:
        cluster.run("scontrol", "requeue", job)
        put_back(batch, 5)
    batch.enough()
    cluster.start_again(job)
    cluster.await_state(job, "COMPLETED", "FAILED")
    assert cluster.state(job) == "COMPLETED" and cluster.fields(job)["Restarts"] == "1", batch.said()
    assert batch.said().count("going on with the batch") == 1, batch.said()
    assert "node1" not in batch.hosts(len(BEFORE)) or not dies
    assert batch.attempts() == 7


# -- nodes that are not needed any more --------------------------------------------------------


def test_nodes_are_given_back(cluster: Cluster, folder: Path) -> None:
    """Those that have run dry, while others work on; not with --no-retire."""
    (folder / "kept").mkdir()
    first, kept = Batch(folder, [UNTIL_ENOUGH] * 3), Batch(folder / "kept", [UNTIL_ENOUGH] * 3, "--no-retire")
    jobs = [cluster.submit(batch, *ONE_EACH, f"--chdir={batch.folder}") for batch in (first, kept)]
    for batch in (kept, first):
        batch.await_begun(*cluster.nodes)
        idle, busy = batch.idle(*cluster.nodes)
        batch.enough(idle)
        batch.enough("node1")
    wait_for(lambda: nodes(cluster, jobs[0]) == busy, SECONDS, f"{idle} is given back")
    wait_for(lambda: len(kept.at_work()) == 2, SECONDS, "one leaves there, too")
    assert nodes(cluster, jobs[1]) == cluster.nodes
    for job, batch in zip(jobs, (first, kept), strict=True):
        batch.enough()
        cluster.await_state(job, "COMPLETED", "FAILED")
        assert batch.said() == "" and batch.hosts() == set(cluster.nodes)


def test_a_command_of_ones_own_is_told(cluster: Cluster, folder: Path) -> None:
    batch = Batch(folder, [UNTIL_ENOUGH] * 3, "--retire-cmd", 'echo "$NODES|$RETCODES|$ACTIVE|$RETIRED" >>retired')
    job = cluster.submit(batch, *ONE_EACH)
    batch.await_begun(*cluster.nodes)
    idle, busy = batch.idle(*cluster.nodes)
    batch.enough(idle)
    wait_for(lambda: (folder / "retired").exists(), SECONDS, "it is called")
    batch.enough()
    cluster.await_state(job, "COMPLETED")
    first, last = (folder / "retired").read_text().splitlines()
    assert first == f"{idle}|0|{','.join(busy)}|{idle}"
    told, codes, active, retired = last.split("|")
    assert (sorted(told.split(",")), codes, active) == (busy, "0,0", "")
    assert sorted(retired.split(",")) == cluster.nodes


# -- runners that are jobs ---------------------------------------------------------------------


def test_jobs_join_and_leave(cluster: Cluster, folder: Path) -> None:
    batch = Batch(folder, [UNTIL_ENOUGH] * 8, "-S")
    with batch.started() as program:
        wait_for(lambda: "add hosts" in batch.said(), SECONDS)
        submit = ("submit", "slurm", batch.directory, "--slots", 1)
        joined = runforrest_command(*submit, "-n", 2, "--", "--exclusive").stdout.strip()
        batch.await_begun("node1", "node2")
        cluster.run("scancel", f"{joined}_1")
        cluster.await_state(f"{joined}_1", "CANCELLED")
        late = runforrest_command(*submit, "--", "--nodelist=node3").stdout.strip()
        batch.await_begun("node3")
        batch.enough()
        assert program.wait(LONG) == 0, batch.said()
    assert {"node2", "node3"} <= batch.hosts() and batch.attempts() == 9
    for job in (f"{joined}_2", f"{late}_1"):
        cluster.await_state(job, "COMPLETED")


def test_ctrl_c_before_any_host_was_added(folder: Path) -> None:
    batch = Batch(folder, ["uname -n"], "-S")
    with batch.started() as program:
        wait_for(lambda: "add hosts" in batch.said(), SECONDS)
        program.send_signal(signal.SIGINT)
        assert program.wait(SECONDS) == 130
    put_back(batch, 0)                      # not a line was read


# -- the same command once more ----------------------------------------------------------------


def test_a_batch_that_is_there_already(folder: Path) -> None:
    """It goes on if it is of the same file, and not done."""
    batch = Batch(folder, ["uname -n"] * 4, "-s", "localhost:1")
    assert batch.again("-C", "2").returncode == 3
    other = folder / "other"
    other.write_text("true\n")
    refused = subprocess.run([*BRIEFLY, "batch", "-p", "x", str(other)], capture_output=True, text=True)
    assert refused.returncode == 2 and "is there already" in refused.stderr
    on = batch.again()
    assert on.returncode == 0 and on.stderr.count("\n") == 1 and "going on with the batch" in on.stderr, on.stderr
    batch.hosts()
    done = batch.again()
    assert done.returncode == 2 and "is there already" in done.stderr

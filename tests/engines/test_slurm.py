"""A real Slurm: runners in an allocation, and runners that are jobs of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runforrest import Command, TaskList
from tests.cli.programs import ROOT
from tests.cli.programs import runforrest as runforrest_command
from tests.engines.support import SECONDS, Cluster, Driver, Ticking
from tests.helpers import wait_for
from tests.runner.support import counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def folder(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tasklist_dir.parent)
    return tasklist_dir.parent


def a_driver(tasks: Ticking, **options: Any) -> Driver:
    return Driver("slurm", tasks.directory, tasks.directory.parent / "x", **options)


# -- inside an allocation ----------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "srun --nodes=1 --ntasks=1", "srun --nodes=1 --ntasks=1 --exclusive"])
def test_a_runner_on_each_node(cluster: Cluster, folder: Path, before: str, tried: Callable[[str, int], None]) -> None:
    """Also where this process is in a step itself, which has all that there is on its node."""
    directory = folder / "it's \"a\" $list"
    tasks = TaskList(directory)
    line = 'echo "$SLURMD_NODENAME $DISBATCH_ENGINE_RANK $DISBATCH_CORES_PER_TASK $SLURM_NTASKS $CUDA_VISIBLE_DEVICES"'
    meet = f'until [ $(sort -u "{folder}/seen" | wc -l) = 3 ]; do sleep 0.1; done'
    for _ in range(30):
        tasks.schedule(Command(f'{line} >>"{folder}/seen"; {meet}'))
    tasks.flush()
    driver = Driver("slurm", directory, folder / "x")
    job = cluster.submit(driver, "--nodes=3", "--ntasks-per-node=2", "--cpus-per-task=2", "--gres=gpu:2",
                         before=before)
    cluster.await_state(job, "COMPLETED", "FAILED")
    assert cluster.state(job) == "COMPLETED", driver.said()
    assert {node: end["code"] for node, end in driver.ends().items()} == dict.fromkeys(cluster.nodes, 0), driver.said()
    seen = (folder / "seen").read_text().splitlines()
    assert len(seen) == 30
    assert set(seen) == {f"{node} {rank} 2 1 0,1" for rank, node in enumerate(cluster.nodes)}
    assert "slots=2, cores=4" in driver.said()
    tried("tasks run by runners on Slurm's nodes", len(seen))
    assert sorted(file.name for file in folder.glob("x_*")) == [f"x_L_node{k}_{k - 1}.log" for k in (1, 2, 3)]


def test_from_outside_the_nodes(cluster: Cluster, folder: Path) -> None:
    """With salloc, on the host that jobs are submitted from; an uneven allocation."""
    tasks = Ticking(folder / "tasks", 6)
    driver = a_driver(tasks, places={"fill": True})
    said = cluster.run("salloc", "--quiet", "-n", "5", "--nodes=2", "--distribution=block", *driver.command)
    assert said.count('"code": 0') == 2, said
    assert "slots=4, cores=4" in said and "slots=1, cores=1" in said
    tasks.finished()


def test_a_node_dies_in_mid_run(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 6, SECONDS)
    driver = a_driver(tasks)
    job = cluster.submit(driver, "--nodes=3", "--ntasks-per-node=1", "--no-kill")
    for node in cluster.nodes:
        tasks.await_begun(node)
    victim = cluster.nodes[-1]
    cluster.power_off(victim)
    tasks.enough()
    wait_for(lambda: counts(tasks.directory)["done"] == 6, 2 * SECONDS, "the others have done its tasks")
    assert victim not in tasks.finished().values()
    assert tasks.counts("lost") == 1
    wait_for(lambda: len(driver.ends()) == 3, 2 * SECONDS, "its end is told")
    assert driver.ends()[victim]["failed"] and driver.ends()["node1"]["code"] == 0
    cluster.await_state(job, "COMPLETED")


@pytest.mark.parametrize("signum, done", [("INT", 2), ("TERM", 0)])
def test_stop(cluster: Cluster, folder: Path, signum: str, done: int) -> None:
    tasks = Ticking(folder / "tasks", 4, SECONDS)
    driver = a_driver(tasks, arguments=[])
    job = cluster.submit(driver, "--nodes=2", "--ntasks-per-node=1")
    for node in cluster.nodes[:2]:
        tasks.await_begun(node)
    cluster.run("scancel", "--batch", f"--signal={signum}", job)
    if done:
        for log in ("x_L_node1_0.log", "x_L_node2_1.log"):
            wait_for(lambda log=log: "asked to stop" in (folder / log).read_text(), SECONDS, f"{log} tells of it")
        tasks.enough()
    cluster.await_state(job, "COMPLETED")
    assert {(end["code"], end["failed"]) for end in driver.ends().values()} == {(4, False)}, driver.said()
    assert counts(tasks.directory) == {"todo": 4 - done, "doing": 0, "done": done, "fail": 0}


def test_nodes_are_given_back(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 6, SECONDS)
    driver = a_driver(tasks, quiet=1.0)
    job = cluster.submit(driver, "--nodes=3", "--ntasks-per-node=1")
    for node in cluster.nodes:
        tasks.await_begun(node)
    assert runforrest_command("stop", tasks.directory, "node2", "--now").returncode == 0
    wait_for(lambda: cluster.fields(job)["NodeList"] == "node[1,3]", SECONDS, "node2 is given back")
    assert cluster.fields(job)["JobState"] == "RUNNING"
    wait_for(lambda: cluster.run("sinfo", "-h", "-n", "node2", "-o", "%t") == "idle", SECONDS)
    assert runforrest_command("stop", tasks.directory, "node1", "--now").returncode == 0    # where the driver is
    wait_for(lambda: driver.said().count('"code"') == 2, SECONDS)
    tasks.enough()
    cluster.await_state(job, "COMPLETED")
    assert "giving back" not in driver.said(), driver.said()
    assert set(tasks.finished().values()) == {"node3"}
    assert list(folder.glob("slurm_job_*")) == []


def test_another_command_gives_them_back(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 4)
    driver = a_driver(tasks, retire=f'echo "$SLURM_JOB_ID|$NODES|$RETCODES|$ACTIVE|$DRIVER_NODE" >>{folder}/retired')
    job = cluster.submit(driver, "--nodes=2", "--ntasks-per-node=1")
    cluster.await_state(job, "COMPLETED")
    [line] = (folder / "retired").read_text().splitlines()
    assert sorted(line.split("|")[1].split(",")) == ["node1", "node2"]
    assert line.split("|")[0] == job and line.endswith("|0,0||node1")


# -- runners that are jobs ---------------------------------------------------------------------


def submit(tasks: Ticking, *arguments: object) -> str:
    answer = runforrest_command("submit", "slurm", tasks.directory, *arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def log(tasks: Ticking, job: str, number: int = 1) -> str:
    return Path(f"{tasks.directory}.slurm/{job}_{number}.log").read_text()


def test_an_array_of_runners(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "100% \"tasks\" it's", 12, SECONDS)
    job = submit(tasks, "-n", 4, "--", "--ntasks=1", "--cpus-per-task=3")
    for node in cluster.nodes:
        tasks.await_begun(node)
    tasks.enough()
    wait_for(lambda: counts(tasks.directory)["done"] == 12, SECONDS)
    wait_for(lambda: not cluster.run("squeue", "-h"), SECONDS, "all have left")
    assert set(tasks.finished().values()) == set(cluster.nodes)
    for number in range(1, 5):
        assert cluster.state(f"{job}_{number}") == "COMPLETED"
    assert "3 slots at work" in log(tasks, job)


def test_scancel(cluster: Cluster, folder: Path) -> None:
    """The tasks of the runner that was cancelled come back to the other."""
    tasks = Ticking(folder / "tasks", 4, SECONDS)
    job = submit(tasks, "-n", 2, "--slots", 1, "--", "--exclusive")
    for node in cluster.nodes[:2]:
        tasks.await_begun(node)
    cluster.run("scancel", f"{job}_2")
    cluster.await_state(f"{job}_2", "CANCELLED")
    tasks.enough()
    cluster.await_state(f"{job}_1", "COMPLETED")
    tasks.finished()
    assert len(list(tasks.log.glob("*.begun"))) == 5, "one task was run again"
    assert tasks.counts("lost") <= 1


def test_the_end_of_the_time(cluster: Cluster, folder: Path) -> None:
    """Slurm's notice: what runs is put back, and the job ends by itself."""
    tasks = Ticking(folder / "tasks", 2, 2 * SECONDS)
    job = submit(tasks, "--slots", 1, "--", "--time=1", "--", "--grace", 1)
    tasks.await_begun(cluster.nodes[0])
    cluster.await_state(f"{job}_1", "FAILED", "TIMEOUT", "COMPLETED")
    assert cluster.fields(f"{job}_1")["ExitCode"] == "4:0", "it left before the end of its list"
    assert counts(tasks.directory) == {"todo": 2, "doing": 0, "done": 0, "fail": 0}
    assert runforrest_command("ls", tasks.directory, "todo").returncode == 0


def test_a_limit_that_comes_without_notice(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    job = submit(tasks, "--slots", 1, "--", "--time=30", "--", "--grace", 1)
    wait_for(lambda: list(tasks.log.glob("*.begun")), SECONDS)
    cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+2")
    cluster.await_state(f"{job}_1", "TIMEOUT")
    wait_for(lambda: counts(tasks.directory)["todo"] == 2, SECONDS, "it has put its task back")
    assert counts(tasks.directory) == {"todo": 2, "doing": 0, "done": 0, "fail": 0}


def test_requeue(cluster: Cluster, folder: Path) -> None:
    """As after a preemption: the same job is started again, and goes on."""
    tasks = Ticking(folder / "tasks", 3, SECONDS)
    job = submit(tasks, "--slots", 1)
    wait_for(lambda: list(tasks.log.glob("*.begun")), SECONDS)
    cluster.run("scontrol", "requeue", f"{job}_1")
    wait_for(lambda: counts(tasks.directory)["todo"] == 3, SECONDS, "it has put its task back")
    cluster.start_again(f"{job}_1")
    wait_for(lambda: len(list(tasks.log.glob("*.begun"))) == 2, SECONDS, "it begins again")
    assert cluster.fields(f"{job}_1")["Restarts"] == "1"
    tasks.enough()
    cluster.await_state(f"{job}_1", "COMPLETED")
    tasks.finished()
    assert tasks.counts("lost") == 0
    assert log(tasks, job).count("slots at work") + log(tasks, job).count("slot at work") == 2, "appended"


def test_a_job_whose_node_dies_is_started_again(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    job = submit(tasks, "--slots", 1)
    wait_for(lambda: list(tasks.log.glob("*.begun")), SECONDS)
    node = cluster.fields(f"{job}_1")["NodeList"]
    cluster.power_off(node)
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=died")
    cluster.start_again(f"{job}_1")
    tasks.enough()
    cluster.await_state(f"{job}_1", "COMPLETED")
    assert node not in tasks.finished().values()
    assert tasks.counts("lost") == 1


def test_a_job_without_a_limit(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1)
    job = submit(tasks, "--", "--time=UNLIMITED")
    cluster.await_state(f"{job}_1", "COMPLETED", "FAILED")
    assert cluster.state(f"{job}_1") == "COMPLETED", log(tasks, job)


def test_slurm_refuses(cluster: Cluster, folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1)
    other = folder / "other.sh"
    other.write_text("#!/bin/sh\ntrue\n")
    for options, said in ((["--partition=none"], "invalid partition"), ([other], "Script arguments not permitted")):
        answer = runforrest_command("submit", "slurm", tasks.directory, "--", *options)
        assert answer.returncode == 2 and f"sbatch refused: sbatch: error: {said}" in answer.stderr
    answer = runforrest_command("submit", "slurm", tasks.directory, "--", "--test-only")
    assert answer.returncode == 0 and "to start at" in answer.stdout

"""Ranks as runners: under a real mpirun, and through mpi4py's executors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runforrest import TaskList, defer
from runforrest.engines import mpi
from runforrest.engines.mpi import World
from runforrest.errors import InvalidArgument
from runforrest.process.rank import without_rank
from tests.engines.support import Cluster
from tests.helpers import files, wait_for
from tests.mapping.mpi import MPICH, OPENMPI, ROOT, environment, kill, mpirun, started, variables
from tests.tasks import log_and_wait, meet, needs

RANKS = 4
Tried = Callable[[str, int], None]


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, None),
    ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}, World(2, 4, 0, 2)),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
      "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, World(1, 3, 1, 3)),
    ({"PMI_RANK": "3", "PMI_SIZE": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
      "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, World(3, 4, 1, 2)),
    ({"PMI_RANK": "3", "PMI_SIZE": "4"}, World(3, 4, 0, 1)),
    ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, None)])
def test_which_rank(variables: dict[str, str], expected: World | None) -> None:
    assert mpi.world(variables) == expected


def test_a_task_of_srun() -> None:
    variables = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2",
                 "SLURM_STEP_TASKS_PER_NODE": "2,1(x2)"}
    assert mpi.started_together(variables) == World(3, 4, 0, 1)
    with pytest.raises(InvalidArgument, match="neither by mpirun nor by srun"):
        mpi.started_together({"SLURM_PROCID": "0"})         # the script of a batch job


def test_shares_are_all_there_is() -> None:
    for local_size in (1, 2, 3, 5):
        for number in (5, 8):
            assert sum(World(0, 9, rank, local_size).share(number) for rank in range(local_size)) == number
    assert World(0, 4, 3, 4).share(2) == 1, "one at least"


def test_what_makes_a_rank_is_taken_out() -> None:
    kept = {"PATH": "/bin", "OMPI_MCA_btl": "tcp", "PMIX_MCA_gds": "hash", "SLURM_PROCID": "1", "UCX_TLS": "tcp"}
    ranks = {"PMI_RANK": "0", "PMI_FD": "9", "PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "PRTE_LAUNCHED": "1",
             "MPI_LOCALRANKID": "0", "HYDI_CONTROL_FD": "7", "OMPI_MCA_num_procs": "4"}
    assert without_rank({**kept, **ranks}) == kept


def test_tasks_of_a_plain_run_are_no_ranks(tasklist_dir: Path) -> None:
    """In a program that mpirun has started, and a list that it runs by itself."""
    program = f"""
        from runforrest import TaskList, defer
        from tests.engines.test_mpi import import_mpi
        tasks = TaskList({str(tasklist_dir)!r})
        tasks.schedule(defer(import_mpi))
        with open("out", "w") as file:
            file.write(str([task.returnvalue for task in tasks.run(1)]))
        """
    run = mpirun(1, program, tasklist_dir.parent)
    assert run.returncode == 0, run.stderr
    assert (tasklist_dir.parent / "out").read_text() == "[(1, False)]"


# -- mpirun -n 4 runforrest run DIR --mpi --------------------------------------------------------


def command(directory: Path, *arguments: str, implementation: str = MPICH) -> list[str]:
    python = str(environment(implementation) / "bin" / "python")
    return [python, "-m", "runforrest", "run", str(directory), "--mpi", *arguments]


def import_mpi() -> tuple[int, bool]:
    """What a task sees of MPI: it is on its own, and the variables of mpirun are gone."""
    from mpi4py import MPI  # type: ignore[import-not-found]
    return MPI.COMM_WORLD.Get_size(), any(name.startswith(("PMI", "OMPI_COMM")) for name in os.environ)


@pytest.mark.parametrize("implementation", [MPICH, pytest.param(OPENMPI, marks=pytest.mark.slow)])
def test_ranks_become_runners(tasklist_dir: Path, tmp_path: Path, implementation: str) -> None:
    tasks = TaskList(tasklist_dir)
    for number in range(16):
        tasks.schedule(defer(meet, str(tmp_path / "log"), number, RANKS))
    tasks.schedule(defer(import_mpi), timeout=30)
    run = mpirun(RANKS, command(tasklist_dir, "-n", "1", implementation=implementation), tmp_path, implementation)
    assert run.returncode == 0, run.stderr
    found = list(tasks.done_tasks())
    assert len(found) == 17 and found[-1].returnvalue == (1, False)
    assert len({task.attempts[-1].runner for task in found}) == RANKS
    assert not (tasklist_dir / "doing").exists(), "all have left in order"


def test_a_failed_task_is_told_by_the_first_rank(tasklist_dir: Path, tmp_path: Path) -> None:
    """Else mpirun would end the others."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(needs, "/no such file"))
    for number in range(8):
        tasks.schedule(defer(meet, str(tmp_path / "log"), number, RANKS))
    run = mpirun(RANKS, command(tasklist_dir, "-n", "1"), tmp_path)
    assert run.returncode == 1
    assert len(list(tasks.done_tasks())) == 8 and len(list(tasks.fail_tasks())) == 1
    assert not (tasklist_dir / "doing").exists()


def test_exit_codes(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    assert [mpi.exit_code(World(1, 4, 1, 4), code, tasks._folder) for code in (0, 1, 3, 4, 143)] == [0, 0, 0, 0, 143]
    assert [mpi.exit_code(World(0, 4, 0, 4), code, tasks._folder) for code in (0, 1, 3, 4)] == [0, 1, 3, 4]
    (tasklist_dir / "fail" / "x.t1-abcd.pkl").touch()
    assert mpi.exit_code(World(0, 4, 0, 4), 0, tasks._folder) == 1, "of a task that another rank has run"


def test_a_rank_that_dies(tasklist_dir: Path, tmp_path: Path, tried: Tried) -> None:
    """mpirun ends all others; what the dead one held comes back when it is started again."""
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(12):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.1 if number < 6 else 600.0))

    def long_ones() -> int:             # ranks take the next ones in any order
        return sum(int(line.split()[0]) >= 6 for line in log.read_text().splitlines()) if log.exists() else 0

    with started(RANKS, command(tasklist_dir, "-n", "1"), tmp_path) as process:
        wait_for(lambda: long_ones() == RANKS, 60)
        ranks = ranks_of(process)
        assert len(ranks) == RANKS
        ranks[2].send_signal(signal.SIGKILL)
        assert process.wait(60) != 0
    enough.touch()
    run = mpirun(RANKS, command(tasklist_dir, "-n", "1"), tmp_path)
    assert run.returncode == 0, run.stderr
    assert sorted(task.returnvalue for task in tasks.done_tasks()) == list(range(12))
    tried("ranks killed", 1)


def test_idle_ranks_sleep(tasklist_dir: Path, tmp_path: Path, tried: Tried) -> None:
    """CPU seconds of all ranks in 4 s in which three of them have nothing to do."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(log_and_wait, str(log), 1, str(tmp_path / "never")))
    with started(RANKS, command(tasklist_dir, "-n", "1"), tmp_path) as process:
        wait_for(lambda: log.exists() and len(files(tasklist_dir, "doing/*")) == RANKS, 60)
        before = cpu(process)
        try:
            process.wait(4)
        except subprocess.TimeoutExpired:
            used = [after - seconds for seconds, after in zip(before, cpu(process), strict=True)]
            print("CPU seconds in 4 s:", [f"{seconds:.2f}" for seconds in used])
            assert len(used) == RANKS and sum(used) < 2.0
        else:
            pytest.fail("it has ended before")
        kill(process)
    tried("runners watched while idle", RANKS)


def cpu(process: subprocess.Popen[str]) -> list[float]:
    """CPU seconds of each rank so far, without those of what it has started."""
    return [times.user + times.system for times in (each.cpu_times() for each in ranks_of(process))]


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if "--mpi" in each.cmdline():
                found.append(each)
        except psutil.Error:            # one that has just ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_srun(cluster: Cluster, tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of a step in a real Slurm, without an MPI."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tasks = TaskList(tasklist_dir)
    for number in range(24):
        tasks.schedule(defer(meet, str(tmp_path / "log"), number, 4))
    tasks.flush()
    runner = [sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "--mpi"]
    cluster.run("srun", "--nodes=2", "--ntasks=4", *runner)
    runners = [task.attempts[-1].runner for task in tasks.done_tasks()]
    assert len(runners) == 24 and len(set(runners)) == 4
    assert {runner.split(".")[0] for runner in runners} == set(cluster.nodes[:2])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_tasker_on_nodes_of_slurm(cluster: Cluster, tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks on two hosts, started by srun itself."""
    for name, value in variables(MPICH).items():
        monkeypatch.setenv(name, value)
    folder = tasklist_dir.parent
    (folder / "script.py").write_text(textwrap.dedent("""
        import os, socket, time
        from runforrest.mapping import Tasker
        with Tasker() as tasker:
            found = tasker.map("x.pkl", lambda x: (time.sleep(0.2), os.environ["SLURMD_NODENAME"])[1], range(12))
            if tasker.isroot():
                print(tasker.size, sorted({node for _, _, node in found}))
        """))
    monkeypatch.chdir(folder)
    python = str(environment(MPICH) / "bin" / "python")
    said = cluster.run("srun", "--mpi=pmi2", "--nodes=2", "--ntasks=4", python, str(folder / "script.py"))
    assert said == "4 ['node1', 'node2']"


def test_without_mpirun(tasklist_dir: Path) -> None:
    TaskList(tasklist_dir)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    run = subprocess.run([sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "--mpi"], capture_output=True,
                         text=True, cwd=ROOT, env=plain)
    assert run.returncode == 2 and "neither by mpirun nor by srun" in run.stderr


# -- in a program --------------------------------------------------------------------------------

SAME_EVERYWHERE = """
    import sys
    from runforrest.mapping import cached_map

    def work(x):
        from tests.tasks import meet
        return meet("log", x, 2) ** 2

    found = cached_map(work, range(16), "map")
    assert found == [x * x for x in range(16)], found
    assert "mpi4py" not in sys.modules
"""
BY_EXECUTOR = """
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor
    from runforrest.engines import executor
    from runforrest.mapping import cached_map

    def work(x):
        from tests.tasks import meet
        return meet("log", x, RUNNERS) ** 2

    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        if pool is not None:
            found = cached_map(work, range(16), "map", nprocesses=NPROCESSES,
                               engine=lambda folder: executor.engine(pool, folder, runners=3))
            assert found == [x * x for x in range(16)], found
            print("done", flush=True)
"""


def who(folder: Path) -> set[str]:
    """The runners that have done something; each of 16 calls was made once."""
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(16))
    return {runner for _, runner in lines}


@pytest.mark.parametrize("implementation", [MPICH, pytest.param(OPENMPI, marks=pytest.mark.slow)])
def test_the_same_program_on_all_ranks(tasklist_dir: Path, implementation: str) -> None:
    """Without mpi4py: each is a runner of the same list, and gets all results."""
    run = mpirun(RANKS, SAME_EVERYWHERE, tasklist_dir.parent, implementation)
    assert run.returncode == 0, run.stderr
    assert len(who(tasklist_dir.parent)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("implementation", [MPICH, OPENMPI])
@pytest.mark.parametrize("here", [0, 1])
def test_the_executor_of_mpi4py(tasklist_dir: Path, implementation: str, here: int) -> None:
    program = BY_EXECUTOR.replace("NPROCESSES", str(here)).replace("RUNNERS", str(3 + here))
    run = mpirun(RANKS, program, tasklist_dir.parent, implementation)
    assert run.returncode == 0 and run.stdout == "done\n", run.stderr
    assert len(who(tasklist_dir.parent)) == 3 + here


@pytest.mark.slow
def test_a_pool_that_is_static(tasklist_dir: Path) -> None:
    """``mpirun -n 4 python -m mpi4py.futures script.py``, with MPIPoolExecutor."""
    script = tasklist_dir.parent / "script.py"
    text = textwrap.dedent(BY_EXECUTOR.replace("RUNNERS", "3"))
    text = text.replace("MPICommExecutor(MPI.COMM_WORLD, root=0)", "MPIPoolExecutor()")
    head, with_, body = text.replace("MPICommExecutor", "MPIPoolExecutor").partition("with MPI")
    main = textwrap.indent((with_ + body).replace("NPROCESSES", "0"), "    ")
    script.write_text(f"{head}if __name__ == '__main__':\n{main}")
    python = str(environment(MPICH) / "bin" / "python")
    run = mpirun(RANKS, [python, "-m", "mpi4py.futures", str(script)], tasklist_dir.parent)
    assert run.returncode == 0 and run.stdout == "done\n", run.stderr
    assert len(who(tasklist_dir.parent)) == 3

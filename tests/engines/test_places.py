"""Slots: disBatch's own rules, for ssh and in Slurm's allocations."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runforrest.engines import Place, slurm, ssh, starts
from runforrest.engines.places import log_file
from runforrest.engines.slurm import Allocation, Node, counts, srun_environment
from runforrest.errors import InvalidArgument, ProcessError

HERE = socket.gethostname()


def test_ssh_nodes() -> None:
    found = ssh.places([" a:4 ,b.c:2,,", "me@d:1,a:1", "localhost:3", "[::1]:2,me@[fe80::1%eth0]:1,::1:1"])
    assert [(p.node, p.slots, p.cores, p.cores_per_task) for p in found] == [
        ("a", 5, 5, 1), ("b.c", 2, 2, 1), ("me@d", 1, 1, 1), (HERE, 3, 3, 1), ("::1", 3, 3, 1),
        ("me@fe80::1%eth0", 1, 1, 1)]


@pytest.mark.parametrize("text, options, expected", [
    ("a:1", {"cpus_per_task": 0.5}, (2, 0)), ("a:5", {"cpus_per_task": 1.5}, (3, 1)),
    ("a:4", {"tasks_per_node": 1}, (1, 4)), ("a:1", {"tasks_per_node": 3}, (3, 0)),
    ("a:4", {"cpus_per_task": 2, "tasks_per_node": 0}, (2, 2)), ("a:1", {"cpus_per_task": 0.1}, (10, 0))])
def test_ssh_slots(text: str, options: dict[str, Any], expected: tuple[int, int]) -> None:
    [place] = ssh.places([text], **options)
    assert (place.slots, place.cores_per_task) == expected


@pytest.mark.parametrize("text", ["a", "a:", ":3", "a:x", "a:-1", "-oProxyCommand=x:1", "[-oProxyCommand=x]:1",
                                  "a:1.5", "a:1;b:2", "a b:1", "a:99999999999"])
def test_what_is_no_node(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not HOST:CORES"):
        ssh.places([text])


def test_hosts_without_slots() -> None:
    said: list[str] = []
    assert [place.node for place in ssh.places(["a:1,b:4"], 2, warn=said.append)] == ["b"]
    assert len(said) == 1 and "a" in said[0]
    for texts, each in ((["a:1"], 2.0), ([], 1.0), (["a:1"], 0.0)):
        with pytest.raises(InvalidArgument):
            ssh.places(texts, each)


def test_this_host_needs_no_ssh() -> None:
    assert ssh.is_here("localhost") and ssh.is_here(HERE) and ssh.is_here(f"{HERE.partition('.')[0]}.two")
    assert not ssh.is_here(f"{HERE}x") and not ssh.is_here(f"me@{HERE}")


TWO = (Node("vm", 8, 2), Node("nodeb", 8, 2))
UNEVEN = (Node("vm", 8, 3), Node("nodeb", 4, 1))


@pytest.mark.parametrize("nodes, cpus, ntasks, options, slots, cores", [
    (TWO, None, None, {}, [2, 2], [4, 4]),                                      # slurm-basic
    (TWO, 4, 2, {}, [2, 2], [4, 4]),                                            # slurm-cpt
    (TWO, 4, None, {"cpus_per_task": 3}, [2, 2], [3, 3]),                       # slurm-c
    (TWO, None, None, {"cpus_per_task": 1}, [2, 2], [1, 1]),                    # slurm-c-more-than-tpn
    (TWO, None, 2, {"tasks_per_node": 3}, [3, 3], [2, 2]),                      # slurm-t
    (TWO, None, None, {"tasks_per_node": 3, "cpus_per_task": 2}, [3, 3], [2, 2]),   # slurm-t-c
    (TWO, None, None, {"fill": True, "cpus_per_task": 2}, [4, 4], [2, 2]),      # slurm-fill
    (UNEVEN, None, None, {}, [3, 1], [2, 4]),                                   # slurm-uneven
    (TWO, None, None, {"cpus_per_task": 0.5, "fill": True}, [16, 16], [0, 0]),
    (TWO, None, None, {"cpus_per_task": 0.1, "fill": True}, [80, 80], [0, 0])])
def test_slots_in_an_allocation(nodes: tuple[Node, ...], cpus: int | None, ntasks: int | None, options: dict[str, Any],
                                slots: list[int], cores: list[int]) -> None:
    found = Allocation("1", nodes, "", cpus, ntasks).places(**options)
    assert [place.slots for place in found] == slots
    assert [place.cores_per_task for place in found] == cores
    assert [place.cores for place in found] == [node.cpus for node in nodes]


def test_fill_is_ignored_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    said: list[str] = []
    found = Allocation("1", TWO, "", None, None).places(fill=True, warn=said.append)
    assert [place.slots for place in found] == [2, 2]
    assert said == ["--fill is ignored, as CUDA_VISIBLE_DEVICES is set"]


def test_counts() -> None:
    assert counts("3", "X") == [3]
    assert counts("2(x3),1", "X") == [2, 2, 2, 1]
    assert counts("8,4(x2),1(x1)", "X") == [8, 4, 4, 1]
    for text in ("2(x", "a", "2(3)", "-1"):
        with pytest.raises(InvalidArgument, match="X is"):
            counts(text, "X")


def test_an_environment_that_contradicts_itself(tmp_path: Path) -> None:
    """`test_slurm.py` has a real one."""
    assert slurm.allocation({}) is None
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf '%s\\n' a b\n")
    scontrol.chmod(0o755)
    given = {"SLURM_JOBID": "7", "SLURM_NODELIST": "[a-b]", "SLURM_JOB_CPUS_PER_NODE": "4(x2)", "PATH": str(tmp_path),
             "SLURM_TASKS_PER_NODE": "2,1", "SLURMD_NODENAME": "b", "SLURM_CPUS_PER_TASK": "2"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = slurm.allocation({**given, **path})
    assert found == Allocation("7", (Node("a", 4, 2), Node("b", 4, 1)), "b", 2, None)
    for wrong in ({"SLURM_TASKS_PER_NODE": "2"}, {"SLURM_NODELIST": ""}, {"SLURM_JOB_CPUS_PER_NODE": ""},
                  {"SLURM_CPUS_PER_TASK": "x"}):
        with pytest.raises(InvalidArgument, match="SLURM_"):
            slurm.allocation({**given, **path, **wrong})
    scontrol.write_text("#!/bin/sh\necho wrong >&2; exit 1\n")
    with pytest.raises(ProcessError, match="exit code 1: wrong"):
        slurm.allocation({**given, **path})


def test_the_environment_of_srun(tmp_path: Path) -> None:
    given = {"HOME": "/h", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2",
             "SLURM_CPU_BIND": "none", "SLURM_CPUS_PER_TASK": "3"}
    kept = {"HOME": "/h", "SLURM_JOB_ID": "7", "SLURM_MPI_TYPE": "none", "A": "b"}
    assert srun_environment(given, {"A": "b"}) == {**kept, "SLURM_CPU_BIND": "none"}
    in_step = {**given, "SLURM_STEP_ID": "0", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_CPU_BIND_LIST": "0x1"}
    assert srun_environment(in_step, {"A": "b"}) == {**kept, "SLURM_CPU_BIND": "cores"}
    file = tmp_path / "options"
    file.write_text("SLURM_MPI_TYPE=pmix\n\nSLURM_EXCLUSIVE=a=b \n")
    found = srun_environment({**given, "DISBATCH_SLURM_SRUN_OPTIONS_FILE": str(file)}, {})
    assert (found["SLURM_MPI_TYPE"], found["SLURM_EXCLUSIVE"], found["SLURM_CPU_BIND"]) == ("pmix", "a=b ", "none")
    file.write_text("fine=1\nnot fine\n")
    with pytest.raises(InvalidArgument, match=":2: 'not fine' is not NAME=VALUE"):
        srun_environment({"DISBATCH_SLURM_SRUN_OPTIONS_FILE": str(file)}, {})


def test_a_program_for_ssh_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFORREST_SSH", "ssh -F 'my config")
    with pytest.raises(InvalidArgument, match=r"RUNFORREST_SSH is .*No closing quotation"):
        ssh.engine([])


def test_starts() -> None:
    found = starts([Place("a", 2, 8, 4), Place("me@b/c", 1, 1, 1)], "DIR", "/p/PRE", "SSH0", ["--quiet"], {"X": "1"}, 5)
    assert [(s.node, s.slots, s.rank) for s in found] == [("a", 2, 5), ("me@b/c", 1, 6)]
    assert [s.log for s in found] == ["/p/PRE_SSH0_a_5.log", "/p/PRE_SSH0_me@b_c_6.log"]
    assert found[0].variables() == {"DISBATCH_ENGINE_RANK": "5", "DISBATCH_CORES_PER_TASK": "4", "X": "1"}
    assert log_file("p", "x y", "n", 0) == "p_x_y_n_0.log"


def test_the_script_says_which_process_the_runner_is(tmp_path: Path) -> None:
    """Here another program is in its place."""
    program = tmp_path / "it's a \"python\""
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$PWD" "$A" "$@"; echo problem >&2; exit 7\n')
    program.chmod(0o755)
    cwd = tmp_path / "work $HOME"
    cwd.mkdir()
    (tmp_path / "a'b").mkdir()
    [start] = starts([Place("a", 2, 8, 4)], str(tmp_path / "a'b"), str(tmp_path / "p q"), "L", ["--session", "x 'y'"],
                     {"A": "1\n'2' \"$3\""}, python=str(program), cwd=str(cwd))
    ran = subprocess.run(["sh", "-c", start.script(start.variables())], capture_output=True, text=True)
    greeting, host, pid, farewell, code = ran.stdout.split()
    assert (greeting, host, farewell, code, ran.stderr) == ("runforrest-runner:", HERE, "runforrest-ended:", "7", "")
    assert Path(start.log).read_text().splitlines() == [
        pid, str(cwd), "1", "'2' \"$3\"", "-m", "runforrest", "run", str(tmp_path / "a'b"), "-n", "2", "--session",
        "x 'y'", "problem"]


@pytest.mark.parametrize("lacks, code, said", [
    ("cwd", 2, "can't cd"), ("list", 2, "there is no folder"), ("package", 127, "No module"), ("nothing", 1, "")])
def test_the_script_says_what_the_host_lacks(tmp_path: Path, lacks: str, code: int, said: str) -> None:
    """A task that failed is the runner's 1; a Python that has no runforrest has the same exit code."""
    program, list_folder = tmp_path / "python", tmp_path / "list"
    program.write_text('#!/bin/sh\n[ $1 != -c ] || { echo No module >&2; exit 1; }\nexit 1\n' if lacks == "package"
                       else '#!/bin/sh\n[ $1 = -c ]\n')
    program.chmod(0o755)
    if lacks != "list":
        list_folder.mkdir()
    [start] = starts([Place("a", 2, 8, 4)], str(list_folder), str(tmp_path / "p"), "L", python=str(program),
                     cwd=str(tmp_path / "none") if lacks == "cwd" else str(tmp_path))
    for shell in ("sh", "bash"):
        ran = subprocess.run([shell, "-c", start.script({})], capture_output=True, text=True)
        farewell = ran.stdout.rpartition("runforrest-ended: ")[2].strip()
        assert int(farewell or ran.returncode) == code
        assert said in ran.stderr or (lacks == "cwd" and "No such file" in ran.stderr)

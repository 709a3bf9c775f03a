"""`Tasker` under a real mpirun, on four ranks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest.mapping import about, load
from tests.helpers import files, wait_for
from tests.mapping.mpi import MPICH, OPENMPI, environment, kill, mpirun, started

RANKS = 4
Tried = Callable[[str, int], None]

#: as the original is used; each call is noted, with the rank that made it.  With MEET none ends before so many ranks
#: have one, with MOST none when so many results are there
USUAL = """
    import glob, os, sys, time
    from runforrest.mapping import Tasker, load, dump

    factor = int(os.environ.get("FACTOR", 3))
    with Tasker() as tasker:
        def work(x):
            with open("log", "a") as log:
                log.write(f"{x} {tasker.rank}\\n")
            time.sleep(float(os.environ.get("SLEEP", 0)))
            while len({line.split()[1] for line in open("log")}) < int(os.environ.get("MEET", 1)):
                time.sleep(0.01)
            while len(glob.glob("results.pkl.mpi/job*.pkl")) >= int(os.environ.get("MOST", 100)):
                time.sleep(0.01)
            if str(x) == os.environ.get("BAD"):
                raise ValueError(f"no {x}")
            return x * factor

        found = tasker.map("results.pkl", work, range(12))
    with open(f"rank{tasker.rank}", "w") as file:
        file.write(str(found))
"""


def calls(folder: Path) -> Counter[str]:
    """How often each argument was computed; the log is emptied."""
    log = folder / "log"
    found = Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()
    log.unlink(missing_ok=True)
    return found


def returned(folder: Path) -> dict[str, str]:
    """What `map` has returned on each rank that got so far; the files are removed."""
    found = {}
    for file in folder.glob("rank?"):
        found[file.name[-1]] = file.read_text()
        file.unlink()
    return found


def triples(factor: int = 3) -> str:
    return str([(i, [i], i * factor) for i in range(12)])


@pytest.mark.slow
@pytest.mark.parametrize("implementation", [MPICH, OPENMPI])
def test_as_the_original(tmp_path: Path, implementation: str) -> None:
    first = mpirun(RANKS, USUAL, tmp_path, implementation, {"MEET": str(RANKS)})
    assert first.returncode == 0, first.stderr
    assert returned(tmp_path) == {"0": triples(), "1": "None", "2": "None", "3": "None"}
    who = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert who == {"0", "1", "2", "3"}, "the root works, too"
    assert calls(tmp_path) == Counter(map(str, range(12)))
    assert not (tmp_path / "results.pkl.mpi").exists()
    mpirun(RANKS, USUAL, tmp_path, implementation)
    assert returned(tmp_path) == dict.fromkeys("0123", triples()) and not calls(tmp_path)
    assert str(load(tmp_path / "results.pkl")) == triples()


def test_killed_in_the_middle(tmp_path: Path, tried: Tried) -> None:
    """Everything is killed, at once, some times; in the end each job that was finished was done once."""
    finished: set[str] = set()
    done: Counter[str] = Counter()
    for number in (2, 5, 8):
        with started(RANKS, USUAL, tmp_path, env={"SLEEP": "0.2", "MOST": str(number)}) as process:
            wait_for(lambda n=number: len(files(tmp_path, "results.pkl.mpi/job*.pkl")) >= n, 60)
            kill(process)
        made = calls(tmp_path)
        assert not finished & set(made), "what was finished is not done again"
        done += made
        finished |= {str(json_index(path)) for path in tmp_path.glob("results.pkl.mpi/job*.pkl")}
        tried("programs killed in the middle of a map", 1)
    last = mpirun(RANKS, USUAL, tmp_path)
    assert last.returncode == 0, last.stderr
    made = calls(tmp_path)
    assert set(made) == set(map(str, range(12))) - finished
    assert returned(tmp_path)["0"] == triples()
    assert not (tmp_path / "results.pkl.mpi").exists(), "half-written files are removed, too"


def json_index(path: Path) -> int:
    record = about(path)
    assert record is not None, f"{path} is not whole"
    assert record["host"] and record["seconds"] >= 0.2 and record["started"].endswith("Z")
    index: int = record["index"]
    return index


def test_a_failing_job_costs_no_other(tmp_path: Path) -> None:
    run = mpirun(RANKS, USUAL, tmp_path, env={"BAD": "7"})
    assert run.returncode == 1
    assert "1 of 12 jobs of results.pkl failed: 7 (ValueError: no 7)" in run.stderr
    assert run.stderr.count('raise ValueError(f"no {x}")') == 1, "the traceback of the rank, once"
    assert not returned(tmp_path) and calls(tmp_path) == Counter(map(str, range(12)))
    assert len(list(tmp_path.glob("results.pkl.mpi/job*.pkl"))) == 11
    again = mpirun(RANKS, USUAL, tmp_path)
    assert again.returncode == 0 and returned(tmp_path)["0"] == triples()
    assert calls(tmp_path) == Counter({"7": 1})


def test_files_that_are_torn_or_from_elsewhere(tmp_path: Path) -> None:
    mpirun(RANKS, USUAL, tmp_path, env={"BAD": "7"})
    calls(tmp_path)
    folder = tmp_path / "results.pkl.mpi"
    torn = folder / "job0002.pkl"
    torn.write_bytes(torn.read_bytes()[:-20])
    (folder / "job0003.pkl").write_bytes(b"")
    (folder / "job0004.pkl").write_bytes(b"\x80\x04K\x05\x85.")         # of the original
    run = mpirun(RANKS, USUAL, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "3 files are torn" in run.stderr
    assert returned(tmp_path)["0"] == triples() and calls(tmp_path) == Counter("2347")


def test_a_changed_function(tmp_path: Path) -> None:
    mpirun(RANKS, USUAL, tmp_path, env={"BAD": "7"})
    calls(tmp_path)
    run = mpirun(RANKS, USUAL, tmp_path, env={"FACTOR": "5"})
    assert run.stderr == "runforrest: results.pkl: the function changed, so 11 of its jobs are done again\n"
    assert returned(tmp_path)["0"] == triples(5) and calls(tmp_path) == Counter(map(str, range(12)))
    again = mpirun(RANKS, USUAL, tmp_path, env={"FACTOR": "6"})
    assert "12 of its jobs" in again.stderr, "the final file is looked at, too"
    assert returned(tmp_path)["0"] == triples(6)


def test_a_torn_final_file(tmp_path: Path) -> None:
    mpirun(RANKS, USUAL, tmp_path)
    calls(tmp_path)
    final = tmp_path / "results.pkl"
    final.write_bytes(final.read_bytes()[:40])
    run = mpirun(RANKS, USUAL, tmp_path)
    assert run.returncode == 0 and returned(tmp_path)["0"] == triples(), run.stderr
    assert "is torn, and is made anew" in run.stderr and len(calls(tmp_path)) == 12


# -- leaving the block ------------------------------------------------------------------------

LEAVE = """
    import os, sys, time
    import runforrest.mapping.ranks
    from runforrest.mapping import Tasker

    case = sys.argv[1] if len(sys.argv) > 1 else os.environ["CASE"]
    runforrest.mapping.ranks.FAREWELL_SECONDS = 2.0 if case == "in a barrier" else 30.0

    def work(x):
        time.sleep(0.1)
        if case == "exit in a job" and tasker.rank == 2:
            sys.exit(7)
        return x

    try:
        with Tasker() as tasker:
            if case == "exit before" and tasker.rank == 1:
                sys.exit(5)
            if case == "exit of the root" and tasker.isroot():
                sys.exit("the root is fed up")
            if case == "exception" and tasker.rank == 3:
                raise RuntimeError("rank 3 is broken")
            if case == "exception of the root" and tasker.isroot():
                raise RuntimeError("the root is broken")
            if case == "in a barrier":
                if tasker.rank == 1:
                    raise RuntimeError("while others wait for it in vain")
                tasker.comm.Barrier()
            found = tasker.map("x.pkl", work, range(10))
            if case == "workers go" and not tasker.isroot():
                sys.exit(0)
            if case == "workers go":
                print(f'again {[r for _, _, r in tasker.map("y.pkl", work, range(4))]}', flush=True)
            print(tasker.rank, found, flush=True)
    finally:
        print("finally", tasker.rank, flush=True)
"""


@pytest.mark.parametrize(("case", "codes", "said"), [
    ("exit before", {5}, ""),
    ("exit in a job", {1, 7}, "SystemExit: 7"),
    ("exit of the root", {1}, "the root is fed up"),
    ("exception", {1}, "RuntimeError: rank 3 is broken"),
    ("exception of the root", {1}, "RuntimeError: the root is broken"),
    ("in a barrier", {1, 9}, "RuntimeError: while others wait for it in vain"),  # MPI_Abort kills some
    ("workers go", {0}, "")])
def test_leaving_the_block(tmp_path: Path, case: str, codes: set[int], said: str) -> None:
    run = mpirun(RANKS, LEAVE, tmp_path, env={"CASE": case})
    assert run.returncode in codes, run.stderr
    assert said in run.stderr
    if case != "in a barrier":          # there the others never get so far
        assert run.stdout.count("finally") == RANKS, "all ranks left as any Python program does"
    if case == "workers go":
        assert "again [0, 1, 2, 3]" in run.stdout


def test_nobody_is_left_to_do_it(tmp_path: Path) -> None:
    run = mpirun(2, """
        import sys
        from runforrest.mapping import Tasker
        with Tasker(root_works=False) as tasker:
            assert tasker.map("x.pkl", lambda x: x, [1, 2]) is None or tasker.isroot()
            if not tasker.isroot():
                sys.exit(0)
            tasker.map("y.pkl", lambda x: x, [1, 2])
        """, tmp_path)
    assert run.returncode == 1 and "all other ranks have left the program" in run.stderr


def test_an_exception_can_be_caught_outside(tmp_path: Path) -> None:
    run = mpirun(RANKS, """
        from runforrest.mapping import MapFailed, Tasker
        try:
            with Tasker() as tasker:
                tasker.map("x.pkl", lambda x: 1 / x, [1, 0, 2])
        except MapFailed as error:
            caught = list(error.failed.items())
        with open(f"rank{tasker.rank}", "w") as file:
            print(caught, tasker.map("y.pkl", lambda x: 1 / x, [1, 2]), file=file)
        """, tmp_path)
    assert run.returncode == 0, run.stderr
    of_root = "[(1, ZeroDivisionError('division by zero'))] [(0, [1], 1.0), (1, [2], 0.5)]\n"
    assert returned(tmp_path) == {"0": of_root, **dict.fromkeys("123", "[] None\n")}


def test_ranks_that_come_late(tmp_path: Path, tried: Tried) -> None:
    """To maps that are over, of one `Tasker` and of the next; each rank is told of each map's end."""
    run = mpirun(RANKS, """
        import random, time
        from runforrest.mapping import Tasker
        draw = random.Random()
        found = []
        for number in range(20):
            with Tasker() as tasker:
                time.sleep(draw.choice([0, 0, 0.3]))
                found.append(tasker.map(f"{number}.pkl", lambda x: x + number, range(number)))
        if tasker.isroot():
            assert found == [[(i, [i], i + number) for i in range(number)] for number in range(20)], found
        else:
            assert found == 20 * [None], found
        """, tmp_path)
    assert run.returncode == 0, run.stderr
    tried("maps to which ranks came late", 20)


def test_idle_ranks_do_not_burn_a_core(tmp_path: Path, tried: Tried) -> None:
    """CPU seconds of each rank in 4 s in which one works (sleeps) and the others wait, in a map and after it."""
    run = mpirun(RANKS, """
        import time
        from runforrest.mapping import Tasker
        with Tasker(root_works=False) as tasker:
            begun = time.process_time()
            tasker.map("x.pkl", time.sleep, [4.0])
            in_map = time.process_time() - begun
        with open(f"rank{tasker.rank}", "w") as file:
            file.write(f"{in_map:.3f}")
        """, tmp_path)
    assert run.returncode == 0, run.stderr
    used = {rank: float(text) for rank, text in returned(tmp_path).items()}
    print("CPU seconds in 4 s of a map:", used)
    tried("ranks watched while idle", len(used))
    assert len(used) == RANKS and all(seconds < 1.0 for seconds in used.values())


# -- what could go wrong around it --------------------------------------------------------------


def test_two_programs_at_the_same_file(tmp_path: Path) -> None:
    with started(2, USUAL, tmp_path, env={"SLEEP": "60"}) as process:
        wait_for(lambda: len(log.read_text().split()) >= 4 if (log := tmp_path / "log").exists() else False, 60)
        second = mpirun(2, USUAL, tmp_path)
        assert second.returncode == 1
        assert re.search(r"MapInUse: .*results.pkl.mpi is being worked on by process \d+ on", second.stderr)
        kill(process)
    third = mpirun(2, USUAL, tmp_path)
    assert third.returncode == 0 and returned(tmp_path)["0"] == triples(), third.stderr


@pytest.mark.slow
def test_another_mpi_than_that_of_mpirun(tmp_path: Path) -> None:
    """Each rank would take itself for the only one."""
    script = tmp_path / "other.py"
    script.write_text("from runforrest.mapping import Tasker\nTasker()\nprint('on its own')\n")
    python = str(environment(OPENMPI) / "bin" / "python")
    run = mpirun(2, ["env", "-u", "HWLOC_XMLFILE", python, str(script)], tmp_path, MPICH)
    assert run.returncode != 0 and "on its own" not in run.stdout
    assert "this is one of 2 ranks, and mpi4py sees 1" in run.stderr


def test_without_mpi4py(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['mpi4py'] = None; from runforrest.mapping import Tasker; Tasker({})"
    python = str(environment(MPICH) / "bin" / "python")
    run = mpirun(2, [python, "-c", hidden.format("")], tmp_path)
    assert run.returncode == 1 and "this is one of 2 ranks, and mpi4py can't be used" in run.stderr
    assert mpirun(2, [python, "-c", hidden.format("'serial'")], tmp_path).returncode == 0


def test_records_are_json(tmp_path: Path) -> None:
    mpirun(RANKS, USUAL, tmp_path)
    record = about(tmp_path / "results.pkl")
    assert record is not None and len(record["jobs"]) == 12 and json.dumps(record)

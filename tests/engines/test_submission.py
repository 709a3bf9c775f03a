"""What sbatch is given; `test_slurm.py` has a real one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from runforrest.cli.exits import OK, TROUBLE, USAGE
from runforrest.engines import submission
from tests.cli.programs import inside, tasklist

SBATCH = """#!/bin/sh
[ -z "$REFUSED" ] || { echo "$REFUSED" >&2; exit 1; }
printf '%s\\0' "$@" >"$OUT/arguments"; echo "17;main"
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OUT", str(tmp_path))
    return tmp_path


def test_the_users_options_come_last(sbatch: Path, tasklist_dir: Path) -> None:
    tasklist(tasklist_dir)
    answer = inside("submit", "slurm", tasklist_dir, "-n", 20, "--slots", 3, "--", "--partition=a b", "-t", "10", "--",
                    "--retries", 2)
    assert (answer.returncode, answer.stdout) == (OK, "17;main\n")
    arguments = (sbatch / "arguments").read_text().rstrip("\0").split("\0")
    script = arguments[-4]
    assert arguments[-3:] == ["--partition=a b", "-t", "10"]
    assert script.startswith("--wrap=cd ") and script.endswith(f"run {tasklist_dir} -n 3 --leave-when-dry --retries 2")
    assert {"--array=1-20", "--requeue", "--signal=B:USR1@30"} < set(arguments)
    assert f"--output={tasklist_dir}.slurm/%A_%a.log" in arguments and Path(f"{tasklist_dir}.slurm").is_dir()
    answer = inside("submit", "slurm", tasklist_dir, "--json")
    assert json.loads(answer.stdout) == {"job": "17;main", "runners": 1, "output": f"{tasklist_dir}.slurm"}


def test_nothing_is_submitted_by_a_dry_run(sbatch: Path, tasklist_dir: Path) -> None:
    tasklist(tasklist_dir)
    answer = inside("submit", "slurm", tasklist_dir, "--dry-run", "--", "--mem=1G")
    assert answer.stdout.startswith("sbatch --parsable --array=1-1 ")
    assert answer.stdout.endswith("--leave-when-dry' --mem=1G\n")
    assert not (sbatch / "arguments").exists()


def test_wrong_use(sbatch: Path, tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inside("submit", "slurm", tasklist_dir).returncode == USAGE          # no list
    tasklist(tasklist_dir)
    for arguments in (("-n", 0), ("--slots", 0)):
        assert inside("submit", "slurm", tasklist_dir, *arguments).returncode == USAGE
    monkeypatch.setenv("REFUSED", "invalid partition specified: x")
    answer = inside("submit", "slurm", tasklist_dir)
    assert answer.returncode == USAGE and "sbatch refused: invalid partition specified: x" in answer.stderr
    assert "it was given --parsable --array=1-1" in answer.stderr
    monkeypatch.setenv("PATH", str(tasklist_dir))
    answer = inside("submit", "slurm", tasklist_dir)
    assert answer.returncode == TROUBLE and "there is no sbatch here" in answer.stderr


@pytest.mark.parametrize("arguments, said", [
    (("--partition=x",), "behind --"), (("-p", "x"), "behind --"), (("--", "--", "--retrys=2"), "--retries"),
    (("--", "--wrap=true"), "--wrap can't be given"), (("--", "--", "--timeout", "soon"), "not a valid float"),
    (("--", "--", "too", "many"), "unexpected extra argument")])
def test_wrong_options_are_told_at_once(sbatch: Path, tasklist_dir: Path, arguments: tuple[str, ...],
                                        said: str) -> None:
    """And not by each of the jobs."""
    tasklist(tasklist_dir)
    answer = inside("submit", "slurm", tasklist_dir, *arguments)
    assert answer.returncode == USAGE and said in answer.stderr, answer.stderr
    assert not (sbatch / "arguments").exists()


def test_the_script_quotes(tmp_path: Path) -> None:
    python, cwd = tmp_path / "it's python", tmp_path / "a \"b\""
    cwd.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$DISBATCH_ENGINE_RANK" "$PWD" "$@"\n')
    python.chmod(0o755)
    script = submission.slurm_script("/l 'i' $s", None, ["--session", "$x y"], str(python), str(cwd))
    ran = subprocess.run(["sh"], input=script, text=True, capture_output=True,
                         env={**os.environ, "SLURM_CPUS_ON_NODE": "6", "SLURM_ARRAY_TASK_ID": "3"})
    assert ran.stdout.splitlines() == ["2", str(cwd), "-m", "runforrest", "run", "/l 'i' $s", "-n", "6",
                                       "--leave-when-dry", "--session", "$x y"]
    assert "--output=/a%%b.slurm/%A_%a.log" in submission.slurm_command("/a%b", 1, script)

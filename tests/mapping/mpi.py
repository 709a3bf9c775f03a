"""A real MPI for the tests, from wheels: each in an environment of its own, as there is an mpirun in each."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 90.0                     # for a program under mpirun
INSTALL_SECONDS = 120.0
DYING_SECONDS = 10.0
SHARED, SEGMENTS = Path("/dev/shm"), ("mpich_shm_*", "sm_segment.*")      # of MPICH, of Open MPI
MPICH, OPENMPI = "mpich", "openmpi"


@functools.cache
def environment(implementation: str) -> Path:
    """A virtual environment with mpi4py and this MPI, and with the packages of the Python that runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix=f"runforrest-{implementation}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              capture_output=True, text=True, check=True).stdout.strip()
    (Path(packages) / "tests.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    installed = subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q",
                                "--disable-pip-version-check", "mpi4py", implementation],
                               capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if installed.returncode:
        pytest.skip(f"mpi4py and {implementation} can't be installed: {installed.stderr.strip()[-300:]}")
    return folder


def variables(implementation: str) -> dict[str, str]:
    """For a program under this mpirun: more ranks than cores, as root, by TCP."""
    path = f"{environment(implementation) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Else MPICH keeps what it knows of the machine in a file in /tmp, which stays there when it is killed.
    topology = {"HWLOC_XMLFILE": os.devnull} if implementation == MPICH else {}
    return {**os.environ, **topology, "PATH": path, "UCX_TLS": "tcp,self", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


@contextmanager
def started(ranks: int, program: str | list[str], folder: Path, implementation: str = MPICH,
            env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """mpirun with this program, the text of a script or a command; nothing of it is left behind."""
    if isinstance(program, str):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(program))
        program = [str(environment(implementation) / "bin" / "python"), str(script)]
    before = segments()
    with tempfile.TemporaryDirectory(prefix="mpi-") as temporary, \
            subprocess.Popen(["mpirun", "-n", str(ranks), *program], cwd=folder, start_new_session=True, text=True,
                             env={**variables(implementation), "TMPDIR": temporary, **(env or {})},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            kill(process)
            remove_unused(segments() - before)


def segments() -> set[Path]:
    return {path for pattern in SEGMENTS for path in SHARED.glob(pattern)}


def remove_unused(left: set[Path]) -> None:
    """What MPICH leaves of its shared memory when it is killed, and Open MPI after each process that it did not start;
    other programs' that came meanwhile stay.
    """
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if left else ():
        try:
            used.update(line.split()[-1] for line in maps.read_text().splitlines() if str(SHARED) in line)
        except OSError:                 # it has ended
            continue
    for segment in left:
        if str(segment) not in used:
            segment.unlink(missing_ok=True)


def mpirun(ranks: int, program: str | list[str], folder: Path, implementation: str = MPICH,
           env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same, run to its end."""
    with started(ranks, program, folder, implementation, env) as process:
        out, errors = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL for mpirun and all that it has started, at once, as when a machine goes down."""
    try:
        all_of_it = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for each in all_of_it:
        try:
            each.send_signal(signal.SIGSTOP)
        except psutil.NoSuchProcess:
            continue
    for each in all_of_it:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(all_of_it, DYING_SECONDS)

"""Runners as jobs of their own, submitted to a batch system from outside."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from runforrest.errors import InvalidArgument, ProcessError

SBATCH_SECONDS = 120.0
#: seconds before the end of the job at which Slurm signals the runner; by itself it looks only for the time limit
NOTICE = 30


def slurm_script(directory: str, slots: int | None, arguments: Sequence[str], python: str = sys.executable,
                 cwd: str | None = None) -> str:
    """What the shell of one job does.  It becomes the runner, so that Slurm's signals reach that.

    It leaves when nothing is left to be begun: its node is needed by others, and what is still at work goes on.
    """
    number = str(slots) if slots else '"${SLURM_CPUS_ON_NODE:-1}"'
    command = shlex.join([python, "-m", "runforrest", "run", os.path.abspath(directory)])
    return "\n".join([
        f"cd {shlex.quote(cwd or os.getcwd())} || exit",
        'export DISBATCH_ENGINE_RANK="$((${SLURM_ARRAY_TASK_ID:-1} - 1))"',
        " ".join(filter(None, [f"exec {command} -n {number} --leave-when-dry", shlex.join(arguments)]))])


def slurm_command(directory: str, runners: int, script: str, options: Sequence[str] = ()) -> list[str]:
    """How sbatch is called.  The user's own options win over ours.  With --wrap it refuses a script among them.

    Raises InvalidArgument for another --wrap, which it would take instead.
    """
    if any(option.startswith("--wr") for option in options):
        raise InvalidArgument("--wrap can't be given to sbatch, as its jobs run `runforrest run`", argument="options")
    return ["sbatch", *_options(directory, runners), f"--wrap={script}", *options]


def _options(directory: str, runners: int) -> list[str]:
    """Output comes into ``DIR.slurm/``."""
    folder = output_folder(directory)
    name = os.path.basename(os.path.abspath(directory))
    # in a pattern, % begins a field, and a backslash turns fields off
    return ["--parsable", f"--array=1-{runners}", "--requeue", "--open-mode=append", f"--signal=B:USR1@{NOTICE}",
            f"--job-name={name}", f"--output={folder.replace('%', '%%')}/%A_%a.log"]


def output_folder(directory: str) -> str:
    return os.path.abspath(directory) + ".slurm"


def submit_slurm(directory: str, runners: int, script: str, options: Sequence[str] = ()) -> str:
    """Submit an array of runners; returns the id of the job, or what sbatch says instead (``--test-only``).

    Raises InvalidArgument if sbatch does not take the options, ProcessError if it can't be run.
    """
    if runners < 1:
        raise InvalidArgument(f"the number of runners must be 1 or more, not {runners}", argument="runners")
    os.makedirs(output_folder(directory), exist_ok=True)
    command = slurm_command(directory, runners, script, options)
    try:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=SBATCH_SECONDS)
    except FileNotFoundError:
        raise ProcessError("there is no sbatch here: is this a host from which jobs are submitted?") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ProcessError(f"sbatch: {error}") from None
    if asked.returncode:
        given = shlex.join(each for each in command[1:] if each != f"--wrap={script}")
        raise InvalidArgument(f"sbatch refused: {asked.stderr.strip() or f'exit code {asked.returncode}'}; it was "
                              f"given {given}", argument="options")
    return asked.stdout.strip() or asked.stderr.strip()

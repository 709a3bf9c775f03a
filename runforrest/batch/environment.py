"""The DISBATCH_ variables of a task that depend on the task and its batch alone.

DISBATCH_ENGINE_RANK, DISBATCH_CYLINDER_RANK, DISBATCH_CORES_PER_TASK and DISBATCH_KVSSTCP_HOST depend on where it runs.
"""

from __future__ import annotations


def variables(job: str, name: str, task: int, line: int, repeat: int) -> dict[str, str]:
    """What a task finds in its environment.

    job     the last part of the batch's prefix
    name    of the task file, without its folder; 'stdin' or 'STREAM' if there is none
    task    number of the task; of an engine's command, its number within START or STOP
    line    in the task file, from 1; ``repeat``: index within a REPEAT, or -1
    """
    numbers = {"DISBATCH_TASKID": task, "DISBATCH_STREAM_INDEX": line, "DISBATCH_REPEAT_INDEX": repeat}
    found = {"DISBATCH_JOBID": job, "DISBATCH_NAMETASKS": name}
    for variable, number in numbers.items():
        found[variable] = str(number)
        found[f"{variable}_ZP"] = f"{number:06d}"
    return found

"""RunForrest 0.4.3, in an environment of its own.

Its iterator may end before the last tasks are reported; they are counted in done/.
"""

from __future__ import annotations

import os

import measuring
import noop
from measuring import now

import runforrest


def main():
    options = measuring.arguments()
    folder = f"{options.dir}/list"
    tasks = runforrest.TaskList(folder)
    begun = now()
    for i in range(options.n):
        tasks.schedule(runforrest.defer(noop.noop, i))
    seconds = now() - begun
    watch = measuring.Stopwatch()
    for task in tasks.run(nprocesses=measuring.SLOTS):
        assert task.errorvalue is None, task.errorvalue
        watch.result()
    done = len([name for name in os.listdir(f"{folder}/done") if name.endswith(".pkl")])
    assert done == options.n, f"{done} of {options.n} tasks are in done/"
    watch.line(watch.count, schedule_us=seconds / options.n * 1e6)


if __name__ == "__main__":
    main()

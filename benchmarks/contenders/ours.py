"""runforrest itself.

--function    importable, or main: a function of the main program, which dill pickles by value
--only        schedule: stop after scheduling.  run: run the tasks that are in --list already
--trace       a path in which each phase touches a name that is not there, for whoever reads the system calls
"""

from __future__ import annotations

import os

import measuring
import noop
from measuring import now

from runforrest import TaskList, defer


def noop_of_main(i):
    return i


def main():
    options = measuring.arguments(isolation="process", durability="normal", function="importable", only="", trace="",
                                  list="")
    n, folder = options.n, options.list or f"{options.dir}/list"

    def mark(phase):
        if options.trace:
            os.path.lexists(f"{options.trace}/{phase}")

    mark("start")
    tasks = TaskList(folder, exist_ok=True, pre_clean=False, durability=options.durability)
    mark("schedule")
    seconds = schedule(tasks, noop.noop if options.function == "importable" else noop_of_main, n) \
        if options.only != "run" else 0.0
    if options.only == "schedule":
        measuring.out(n=n, us=seconds / n * 1e6, per_second=n / seconds)
        return
    mark("run")
    watch = measuring.Stopwatch()
    begun = now()
    # preload: the workers of a pool have the function's module from their parent, too
    for task in tasks.run(nprocesses=measuring.SLOTS, isolation=options.isolation, print_output=False,
                          preload=["noop"]):
        assert task.errorvalue is None, task.errorvalue
        watch.result()
    total = now() - begun
    mark("end")
    watch.line(n, schedule_us=seconds / n * 1e6, total_us=total / n * 1e6, **memory())


def schedule(tasks, function, n):
    begun = now()
    for i in range(n):
        tasks.schedule(defer(function, i))
    tasks.flush()
    return now() - begun


def memory():
    """Bytes that this process held at most, and now."""
    found = {}
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(("VmHWM", "VmRSS")):
                    found["peak" if line.startswith("VmHWM") else "rss"] = int(line.split()[1]) * 1024
    except OSError:
        pass
    return found


if __name__ == "__main__":
    main()

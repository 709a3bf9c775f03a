"""jug: a file store, and two `jug execute` on one folder; its time includes loading the file of tasks."""

from __future__ import annotations

import os
import subprocess
import sys

import measuring
from measuring import now

JUGFILE = """from jug import Task
import noop
tasks = [Task(noop.noop, i) for i in range({n})]
"""


def main():
    options = measuring.arguments()
    os.chdir(options.dir)
    with open("jugfile.py", "w") as file:
        file.write(JUGFILE.format(n=options.n))
    command = [os.path.join(os.path.dirname(sys.executable), "jug"), "execute", "--wait-cycle-time", "1",
               "jugfile.py"]
    begun = now()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(measuring.SLOTS)]
    codes = [process.wait() for process in running]
    assert not any(codes), codes
    seconds = now() - begun
    own = os.times()
    measuring.out(n=options.n, us=seconds / options.n * 1e6,
                  cpu_us=(own.children_user + own.children_system) / options.n * 1e6)


if __name__ == "__main__":
    main()

"""A file of command lines, run two at a time by a program: from its start to its end.

--tool    ours, parallel, xargs or disbatch; what can't be found here ends with 1
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import measuring
from measuring import now

LINE = "true"
SLOTS = str(measuring.SLOTS)
BATCH = ["-e", "-s", f"localhost:{SLOTS}", "-p", "x", "lines"]      # what ours and disBatch both understand
COMMANDS = {
    "ours": [sys.executable, "-m", "runforrest", "batch", *BATCH],
    "parallel": ["parallel", "--will-cite", "-j", SLOTS, "-a", "lines"],
    "xargs": ["xargs", "-a", "lines", "-d", "\\n", "-n", "1", "-P", SLOTS, "bash", "-c"],
    "disbatch": [os.path.join(os.path.dirname(sys.executable), "disBatch"), *BATCH],
}


def main():
    options = measuring.arguments(tool="ours")
    os.chdir(options.dir)
    with open("lines", "w") as file:
        file.write(f"{LINE}\n" * options.n)
    begun = now()
    subprocess.run(COMMANDS[options.tool], stdout=subprocess.DEVNULL, check=True)
    seconds = now() - begun
    if os.path.exists("x_status.txt"):
        with open("x_status.txt") as file:
            found = sum(1 for line in file)
        assert found == options.n, f"{found} records of {options.n} commands"
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    measuring.out(n=options.n, seconds=seconds, us=seconds / options.n * 1e6,
                  cpu_us=(usage.ru_utime + usage.ru_stime) / options.n * 1e6)


if __name__ == "__main__":
    main()

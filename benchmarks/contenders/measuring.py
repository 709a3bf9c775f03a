"""Clock, CPU time and the line that comes out.  Runs in other environments, too: the standard library only."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

now = time.perf_counter
SLOTS = 2


def arguments(**extra):
    """-n and --dir, and the options of one contender: name=default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, required=True)
    parser.add_argument("--dir", required=True)
    for name, default in extra.items():
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", default=default)
    return parser.parse_args()


def spent():
    """(CPU seconds in ticks of 10 ms, page faults) of this process and all below it, those that have ended too."""
    below, stats = {}, {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(entry))
            stats[int(entry)] = sum(map(int, fields[11:15])), int(fields[7]) + int(fields[8])
    pids = [os.getpid()]
    for pid in pids:
        pids += below.get(pid, [])
    ticks, faults = (sum(stats[pid][which] for pid in pids if pid in stats) for which in (0, 1))
    return ticks / os.sysconf("SC_CLK_TCK"), faults


class Stopwatch:
    """Time and CPU per task from the first result, which stands for the warm-up, to the last."""

    def __init__(self):
        self.begun = now()
        self.first = self.last = None
        self.count = 0

    def result(self):
        """One more result is there."""
        self.count += 1
        self.last = now()
        if self.first is None:
            self.first = self.last
            self.cpu, self.faults = spent()
            self.last = self.from_here = now()      # looking at /proc is not the contender's time

    def line(self, n, **more):
        """The measurement; checks that nothing was lost."""
        assert self.count == n, f"{self.count} results of {n} tasks"
        per = max(1, n - 1)
        cpu, faults = spent()
        out(n=n, us=(self.last - self.from_here) / per * 1e6, cpu_us=(cpu - self.cpu) / per * 1e6,
            faults=(faults - self.faults) / per, first_s=self.first - self.begun, **more)


def out(**measured):
    sys.stdout.flush()
    print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in measured.items()}), flush=True)

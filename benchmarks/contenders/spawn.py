"""A fresh interpreter per task by posix_spawn, two at a time: `python -c pass`."""

from __future__ import annotations

import os
import sys

import measuring


def main():
    options = measuring.arguments()
    command = [sys.executable, "-c", "pass"]
    watch = measuring.Stopwatch()
    running = started = 0
    while started < options.n or running:
        while started < options.n and running < measuring.SLOTS:
            os.posix_spawn(command[0], command, os.environ)
            started += 1
            running += 1
        os.wait()
        running -= 1
        watch.result()
    watch.line(options.n)


if __name__ == "__main__":
    main()

"""The physical limit: fork + setsid + exit and the file operations of a task, two at a time, and no library.

usage: python -S -E limit.py -n N [--fsync] [--load MODULE] --dir DIR

Claim by rename; the child reads the task's file and appends a frame of 500 bytes; the parent waits and
renames to done.  It imports as little as it can, for the size of this process is what its forks cost.
"""

import os
import resource
import sys
import time

SLOTS, WARM_UP = 2, 4
FRAME = b"f" * 500


def main(words):
    n = int(words[words.index("-n") + 1])
    force = "--fsync" in words
    if "--load" in words:
        __import__(words[words.index("--load") + 1])
    os.chdir(words[words.index("--dir") + 1])
    for folder in ("todo", "doing", "done"):
        os.mkdir(folder)
    for i in range(n + WARM_UP):
        fd = os.open(f"todo/{i}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        os.write(fd, FRAME)
        os.close(fd)
    run(0, WARM_UP, force)
    cpu, faults = spent()
    begun = time.perf_counter()
    run(WARM_UP, WARM_UP + n, force)
    seconds = time.perf_counter() - begun
    cpu, faults = spent()[0] - cpu, spent()[1] - faults
    assert len(os.listdir("done")) == n + WARM_UP
    print(f'{{"n": {n}, "us": {seconds / n * 1e6:.3f}, "cpu_us": {cpu / n * 1e6:.3f}, "faults": {faults / n:.1f}}}')


def spent():
    """(CPU seconds, page faults) of this process and its children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in both), sum(u.ru_minflt for u in both)


def run(first, end, force):
    running = {}
    following = first
    while following < end or running:
        while following < end and len(running) < SLOTS:
            os.rename(f"todo/{following}", f"doing/{following}")
            pid = os.fork()
            if not pid:
                child(f"doing/{following}", force)
            running[pid] = following
            following += 1
        pid, status = os.wait()
        assert status == 0
        ended = running.pop(pid)
        os.rename(f"doing/{ended}", f"done/{ended}")


def child(path, force):
    os.setsid()
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 65536)
    os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, FRAME)
    if force:
        os.fsync(fd)
    os.close(fd)
    os._exit(0)


main(sys.argv)

"""fork + exit + wait of this process, after loading --load, --slots at a time."""

import os
import sys
import time


def main(words):
    n, slots = int(words[words.index("-n") + 1]), int(words[words.index("--slots") + 1])
    for module in words[words.index("--load") + 1].split(",") if "--load" in words else ():
        __import__(module)
    if "--freeze" in words:
        import gc
        gc.collect()
        gc.freeze()
    import resource
    forks(4, slots)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    forks(n, slots)
    us = (time.perf_counter() - begun) / n * 1e6
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open("/proc/self/statm") as file:
        rss = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(f'{{"n": {n}, "us": {us:.3f}, "faults": {(after.ru_minflt - before.ru_minflt) / n:.1f}, '
          f'"rss": {rss}, "modules": {len(sys.modules)}}}')


def forks(n, slots):
    running = started = 0
    while started < n or running:
        while started < n and running < slots:
            if not os.fork():
                os._exit(0)
            started += 1
            running += 1
        os.wait()
        running -= 1


main(sys.argv)

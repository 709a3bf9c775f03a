"""multiprocessing.Pool, which forks its workers from this process: a fresh one per task, nothing on disk."""

from __future__ import annotations

import multiprocessing

import measuring
import noop


def main():
    options = measuring.arguments()
    pool = multiprocessing.get_context("fork").Pool(measuring.SLOTS, maxtasksperchild=1)
    watch = measuring.Stopwatch()
    with pool:
        for _ in pool.imap_unordered(noop.noop, range(options.n), chunksize=1):
            watch.result()
        watch.line(options.n)


if __name__ == "__main__":
    main()

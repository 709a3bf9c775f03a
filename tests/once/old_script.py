"""A program for run-once 0.4.2 that uses every name of it, and prints what it gets: `old_script.py original|ours`."""

from __future__ import annotations

import os
import sys
import time

if sys.argv[1] == "original":
    import run_once  # type: ignore[import-not-found]
else:
    from runforrest import once as run_once

run_once.set_logger_level("CRITICAL")
LEASE, OVER = 5.0, 6.0             # seconds

if sys.argv[1] == "original":
    # Its notify_failure() and distributed_task() drop the future of the release, and gRPC cancels a call whose
    # future is gone (`__del__`): without this, several of a hundred failures never reach its server.
    release, releases = run_once.release_lock_async, []

    def release_lock_async(*arguments):
        releases.append(release(*arguments))
        return releases[-1]

    run_once.release_lock_async = release_lock_async


def raises(kind, function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except kind:
        return f"raises {kind.__name__}"


def show(locks):
    return [lock and (lock.global_id, lock.expires_in.seconds, lock.expires_in.nanos, lock.last_owner_name)
            for lock in locks]


def iterating():
    keys = run_once.DistributedIterator
    print(list(keys(["a", "b"], timeout=60, version=2)), list(keys(range(3))), list(keys((1, 2), timeout=LEASE)))
    print(list(keys({"x": 1}, 60)), list(keys({"y": 1}.keys(), 60, True, 0, 5, 1)))
    print(raises(AssertionError, keys, {"a"}), raises(AssertionError, keys, (k for k in "ab")))
    iterator = keys(["q1", "q2", "q3"], timeout=60)
    running = iter(iterator)
    print(next(running), list(keys(["q1", "q2", "q3"], timeout=60)), raises(StopIteration, next, running))
    print(raises(TypeError, len, iterator), raises(AttributeError, next, keys(["n"])))


def reporting():
    success, failure = run_once.notify_success, run_once.notify_failure
    print(raises(AssertionError, success, "nobody"), failure("nobody"))
    print(raises(ValueError, success, "0"), success("0", False))
    print(success("a_v002"), raises(ValueError, success, "a_v002"), run_once.count_keys_by_prefix(""))
    search = run_once.search_keys_by_prefix
    print(search(""), search("1"), search("1", is_expired=True), search("1", is_expired=False))
    time.sleep(OVER)
    keys = run_once.DistributedIterator
    print(list(keys((2, 1), timeout=LEASE)), list(keys((1, 2), timeout=LEASE)))
    time.sleep(OVER)
    print(search("1", is_expired=True), search("1", is_expired=False), run_once.count_keys_by_prefix("1"))
    failure("b_v002")
    time.sleep(OVER)
    print(list(keys(["a", "b"], timeout=60, version=2)))


def functions():
    @run_once.distributed_task("double", 60)
    def double(x):
        return 2 * x
    print(double(2), double(3))

    @run_once.distributed_task("fails", 60)
    def fails(x):
        return 1 / x
    print(fails(0), time.sleep(OVER), fails(1))

    @run_once.distributed_task("raises", 60, suppress_exception=False)
    def throws(x):
        return 1 / x
    print(raises(ZeroDivisionError, throws, 0), time.sleep(OVER), throws(1))

    @run_once.distributed_task("itself", 60, version=1)
    def itself():
        return itself()
    print(itself(), run_once.search_keys_by_prefix("its"))


def locks():
    lock = run_once.make_lock("lock", LEASE, "me")
    print(show(run_once.try_lock(lock)), show(run_once.try_lock(lock)))
    time.sleep(OVER)
    print(show(run_once.try_lock(lock)), show(run_once.try_lock(run_once.make_lock("lock", 0, "you"), force=True)))
    print(show(run_once.try_lock(lock)), raises(AssertionError, run_once.make_lock, "ä"))
    run_once.release_lock_async("lock").result()
    print(run_once.search_keys_by_prefix("lock"), run_once.make_lock("ä", force_ascii=False).global_id)
    heard = []
    run_once.force_lock_async(run_once.make_lock("lock", 0, "z"), heard.append).result()
    time.sleep(OVER)
    print(run_once.count_keys_by_prefix("lock"), len(heard))


def others():
    print([run_once.make_versioned_key("k", v) for v in (0, 7, 1234, -1)],
          raises(AssertionError, run_once.make_versioned_key, 3, 1),
          raises(AssertionError, run_once.make_versioned_key, "k", "1"))
    print(run_once.worker_name().split("_")[1:] == [f"{os.getpid():05d}", f"{os.getppid():05d}"])
    duration = run_once.make_duration(1.25)
    print(duration.seconds, duration.nanos, list(run_once.Status), run_once.RetryTimeoutError.__name__)
    print(run_once.make_logger("another", "INFO").level)


for part in (iterating, reporting, functions, locks, others):
    part()

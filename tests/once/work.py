"""Programs that several processes run in tests."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter

from runforrest import once
from runforrest.once.files import KeyFiles
from runforrest.once.folder import FolderStore


def note(log: str, line: str) -> None:
    """Append a line, which is whole whoever else writes and whatever is killed."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def go_through(log: str, number: int, timeout: str, version: str = "0") -> None:
    """As a script of run-once does it."""
    seconds, beating = (0.0, True) if timeout == "heartbeat" else (float(timeout), False)
    for key in once.DistributedIterator([f"k{n}" for n in range(int(number))], timeout=seconds, version=int(version),
                                        heartbeat=beating):
        note(log, key)
        once.notify_success(key)


def stress(log: str, number: int, seed: int) -> None:
    """Go through the list again and again, until all is done; be slow now and then, so that leases end."""
    rng = random.Random(int(seed))
    names = [f"k{n}" for n in range(int(number))]
    beating = int(seed) % 2 == 0
    done = 0
    while done < len(names):
        at = max(0, done - 200) if rng.random() < 0.8 else rng.randrange(len(names))    # mostly all at the same place
        got = 0
        for key in once.DistributedIterator(names[at:at + 300], 0 if beating else 0.3, heartbeat=beating):
            got += 1
            word = f"{os.getpid()}-{key.token}"
            if rng.random() < 0.006 and not beating:
                wait_until_taken(key, 2.0)
            if rng.random() < 0.01:
                note(log, f"gave {key} {word}")
                once.notify_failure(key)
                continue
            try:
                once.notify_success(key, value=word)
            except once.ClaimLost:
                note(log, f"late {key} {word}")
            else:
                note(log, f"done {key} {word}")
        if got < 30:
            done = once.count_keys_by_prefix("k")["success"]


def wait_until_taken(key: once.Key, seconds: float) -> None:
    """Until somebody else has the key, or has done it, or so long."""
    deadline = time.monotonic() + seconds
    while key.is_mine() and time.monotonic() < deadline:
        time.sleep(0.05)


def hold(log: str, key: str, timeout: str) -> None:
    """Claim a key, say so, wait until there is a file beside the log, then report success."""
    seconds, beating = (0.0, True) if timeout == "heartbeat" else (float(timeout), False)
    mine = once.take(key, seconds, heartbeat=beating)
    assert mine is not None
    note(log, f"claimed {mine.token}")
    while not os.path.exists(f"{log}.go"):
        time.sleep(0.02)
    try:
        once.notify_success(mine, value=os.getpid())
        note(log, "done")
    except once.ClaimLost as error:
        note(log, f"{type(error).__name__} {error}")


def persist(log: str, key: str) -> None:
    """Ask for a key until it is to be had, and report success."""
    mine = None
    while mine is None:
        mine = once.take(key, 600)
        time.sleep(0.1)
    once.notify_success(mine, value="rescued")
    note(log, f"done {mine.token}")


def look_twice(log: str, key: str) -> None:
    """Look for a key that is not there; and again, and try to claim it, when there is a file beside the log."""
    note(log, f"{once.value_of(key)} {once.search_keys_by_prefix(key)}")
    while not os.path.exists(f"{log}.go"):
        time.sleep(0.02)
    note(log, f"{once.take(key, 600)} {once.value_of(key)} {once.search_keys_by_prefix(key)}")


class Counting(KeyFiles):
    """Counts file operations."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.counts: Counter[str] = Counter()

    def before(self, operation: str, *args: object) -> None:
        self.counts[operation] += 1


def count(root: str, log: str, number: int) -> None:
    """When all are there, go through the list; then tell what it took."""
    fs = Counting(root)
    store = FolderStore(root, fs=fs)
    note(log, "{}")
    while not os.path.exists(f"{log}.go"):
        time.sleep(0.01)
    fs.counts.clear()
    found = 0
    for key in once.DistributedIterator([f"k{n}" for n in range(int(number))], 600, store=store):
        once.notify_success(key)
        found += 1
    note(log, json.dumps({**fs.counts, "keys": found}))


def leave(key: str, how: str) -> None:
    """Claim a key, and be ended in the middle of the work."""
    mine = once.take(key, 1000)
    assert mine is not None
    with mine:
        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        raise RuntimeError("in the middle")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

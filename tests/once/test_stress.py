"""Eight processes, ten thousand keys, and a process killed every moment: each key succeeds exactly once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest import once
from runforrest.once.model import KeyStore
from tests.hosts.machines import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Tried = Callable[[str, int], None]
PROCESSES, KEYS, LEAST_KILLS = 8, 10_000, 100


def start(log: Path, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.once.work", "stress", str(log), str(KEYS), str(seed)],
                            cwd=ROOT, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def kill_on(log: Path, rng: random.Random) -> int:
    """Have them at work, and kill one after the other; returns how many were killed."""
    processes = [start(log, seed) for seed in range(PROCESSES)]
    killed, seed = 0, PROCESSES
    while any(process.poll() is None for process in processes):
        time.sleep(rng.uniform(0.0, 0.3))
        number = rng.randrange(PROCESSES)
        if processes[number].poll() is None and killed < 1.2 * LEAST_KILLS:
            processes[number].kill()
            processes[number].wait()
            killed += 1
            processes[number] = start(log, seed)
            seed += 1
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return killed


def test_each_key_succeeds_exactly_once(keys: KeyStore, tmp_path: Path, tried: Tried) -> None:
    log = tmp_path / "log"
    killed = kill_on(log, random.Random(5))
    notes = [line.split() for line in log.read_text().splitlines()]
    done = [(key, word) for kind, key, word in notes if kind == "done"]
    assert once.count_keys_by_prefix("k") == {"expired": 0, "in_progress": 0, "success": KEYS}
    values = {f"k{n}": once.value_of(f"k{n}") for n in range(KEYS)}
    assert max(Counter(key for key, _ in done).values()) == 1, "no success was reported twice"
    assert [(key, word) for key, word in done if values[key] != word] == [], "and what was reported is what is kept"
    assert KEYS - killed <= len(done) <= KEYS, "who was killed may have died before it could say so"
    late = [(key, word) for kind, key, word in notes if kind == "late"]
    assert [(key, word) for key, word in late if values[key] == word] == [], "nothing of late owners is kept"
    assert killed >= LEAST_KILLS and late, "too little to prove anything"
    where = "a Redis server" if keys.url.startswith("redis") else "a folder"
    tried(f"keys that succeeded exactly once in {where}", len(values))
    tried(f"processes killed while they worked on keys in {where}", killed)
    tried(f"late owners refused in {where}", len(late))
    tried(f"keys given back in {where}", sum(kind == "gave" for kind, _, _ in notes))

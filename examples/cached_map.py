"""A map that remembers: `python examples/cached_map.py`, and once more.

How well does a walk that turns at random get away from where it began?  Each call simulates some walks with another
chance to turn; the results are kept in a task list.  The second time nothing is computed.  Change `STEPS`, and all is;
add chances, and only these are.

`python examples/cached_map.py FOLDER` keeps the results there; without FOLDER in the folder `walks` in the current one.
"""

import math
import random
import sys

from runforrest import TaskList
from runforrest.mapping import cached_map

CHANCES = [0.01, 0.03, 0.1, 0.3, 1.0]
STEPS, WALKS = 500, 60


def distance(chance):
    """How far a walk gets on average."""
    draw = random.Random(chance)
    total = 0.0
    for _ in range(WALKS):
        x = y = angle = 0.0
        for _ in range(STEPS):
            if draw.random() < chance:
                angle = draw.uniform(0, 2 * math.pi)
            x, y = x + math.cos(angle), y + math.sin(angle)
        total += math.hypot(x, y)
    return total / WALKS


def computed(folder):
    """When each call that is kept was run."""
    tasks = TaskList(folder, exist_ok=True, pre_clean=False)
    return {attempt.ended for task in tasks.done_tasks() for attempt in task.attempts}


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "walks"
    before = computed(folder)
    found = cached_map(distance, CHANCES, folder, nprocesses=2, timeout=60)
    for chance, far in zip(CHANCES, found, strict=True):
        print(f"{chance:5.2f} {'*' * round(far / 5)} {far:.0f}")
    print(f"computed {len(computed(folder) - before)} of {len(CHANCES)}; they are in {folder}")

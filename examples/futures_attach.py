"""Calls that outlive their program, and are found again by another one: `python examples/futures_attach.py`.

The work: how often do n people have at least two birthdays on the same day?  A first program submits the
calls, and is killed with `kill -9` in their midst.  The runner that it has started goes on.  This program
attaches to the same folder and has all results, each once.

`python examples/futures_attach.py FOLDER` makes the task list there; without FOLDER it goes into a new
temporary folder, which stays until you remove it.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import as_completed

from runforrest import Executor

PEOPLE = range(5, 65, 5)
ROUNDS = 20_000


def share_of_doubles(people):
    """(people, in which share of the rounds two of them have the same birthday)."""
    draw = random.Random(people).randrange
    doubles = sum(len({draw(365) for _ in range(people)}) < people for _ in range(ROUNDS))
    return people, doubles / ROUNDS


def submit(directory):
    """What the first program does; it is killed before it has all results."""
    with Executor(directory, max_workers=2) as executor:
        futures = [executor.options(name=f"{people} people").submit(share_of_doubles, people) for people in PEOPLE]
        print("first result of the first program:", futures[0].result(), flush=True)
        time.sleep(1000)


def main():
    if sys.argv[1:2] == ["submit"]:
        return submit(sys.argv[2])
    home = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-")
    directory = os.path.join(home, "tasks")
    with subprocess.Popen([sys.executable, os.path.abspath(__file__), "submit", directory],
                          stdout=subprocess.PIPE, text=True) as first:
        print(first.stdout.readline().strip())
        first.send_signal(signal.SIGKILL)
    print("it was killed; what is in the list now:")

    executor = Executor(directory, max_workers=2)
    futures = list(executor.attach())
    print(f"  {len(futures)} calls, {sum(future.done() for future in futures)} of them done")
    found = dict(future.result() for future in as_completed(futures, timeout=100))
    for people, share in sorted(found.items()):
        print(f"  {people:3} people {share:6.1%}  {'#' * round(share * 40)}".rstrip())
    print("by its name, from anywhere:", executor.future("20 people").result())
    executor.shutdown()
    print(f"{len(PEOPLE)} results wanted, {len(found)} there.  The task list is in {directory}")
    return 0 if set(found) == set(PEOPLE) else 1


if __name__ == "__main__":
    sys.exit(main())

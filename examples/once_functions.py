"""Functions that run once across all processes, and at most once per period: `python examples/once_functions.py`.

Three processes need the same table, which takes long to make.  One makes it, the others wait and get it.  With FOLDER
as an argument the keys are kept there; without, in a new temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time

from runforrest import once


@once.run_once("the table", wait=None)
def table():
    """Long work, whose value everybody needs."""
    time.sleep(1)
    return {"made by": os.getpid(), "squares": [n * n for n in range(10)]}


@once.at_most_every(seconds=3600, key="say hello")
def hello():
    print(f"process {os.getpid()} says hello, and no other one within the hour", flush=True)


@once.distributed_task("the report", timeout=60)
def report(squares):
    print(f"process {os.getpid()} reports: their sum is {sum(squares)}", flush=True)


def work():
    """What each process does: RUNFORREST_KEYS tells where the keys are."""
    hello()
    found = table()
    status, _ = report(found["squares"])
    print(f"process {os.getpid()} has the table that {found['made by']} made; the report: {status.name}", flush=True)


def main(folder):
    os.environ["RUNFORREST_KEYS"] = folder
    processes = [subprocess.Popen([sys.executable, __file__, "--work"]) for _ in range(3)]
    for process in processes:
        assert process.wait() == 0
    assert once.count_keys_by_prefix("the")["success"] == 2
    print(f"The table and the report were made exactly once.  The keys are in {folder}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-") + "/keys")

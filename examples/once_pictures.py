"""Four processes share a list, one is killed, and each key is done once: `python examples/once_pictures.py`.

The work: for each point of a grid, how long it takes to leave the Mandelbrot set.  Nobody divides the rows among the
processes beforehand: each takes the next one that nobody has.  With FOLDER as an argument the keys are kept there;
without, in a new temporary folder.  On a cluster you would start the same program on each node.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time

from runforrest import once

ROWS, COLUMNS, MOST = 40, 72, 200
LETTERS = " .:-=+*#%@"


def row(number):
    """The letters of one row."""
    text = ""
    for column in range(COLUMNS):
        c = complex(-2.1 + 2.8 * column / COLUMNS, -1.2 + 2.4 * number / ROWS)
        z, steps = 0j, 0
        while abs(z) < 2 and steps < MOST:
            z, steps = z * z + c, steps + 1
        text += LETTERS[min(len(LETTERS) - 1, steps * len(LETTERS) // 40)]
    return text


def work():
    """What each process does: RUNFORREST_KEYS tells where the keys are."""
    rows = once.DistributedIterator(range(ROWS), heartbeat=True)
    while once.count_keys_by_prefix("")["success"] < ROWS:      # until also those of dead processes are done
        for key in rows:
            with key:
                key.value = [row(key.original), os.getpid()]
                time.sleep(0.05)


def main(folder):
    os.environ["RUNFORREST_KEYS"] = folder
    processes = [subprocess.Popen([sys.executable, __file__, "--work"]) for _ in range(4)]
    while once.count_keys_by_prefix("")["success"] < ROWS // 4:
        time.sleep(0.02)
    processes[0].send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    values = [once.value_of(str(number)) for number in range(ROWS)]
    print("\n".join(text for text, _ in values))
    counts = once.count_keys_by_prefix("")
    assert counts == {"expired": 0, "in_progress": 0, "success": ROWS}, counts
    print(f"{ROWS} rows, each done exactly once, by {len({pid for _, pid in values})} processes; process "
          f"{processes[0].pid} was killed.\nThe keys are in {folder}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-") + "/keys")

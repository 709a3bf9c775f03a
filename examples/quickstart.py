"""A long list of real work that runs, crashes, is retried and finishes: `python examples/quickstart.py`.

The work: at which density does water get through a porous layer?  For each density some random layers
are made, and one task per layer finds out whether water gets from its top to its bottom.
Some further tasks go wrong on purpose, and one of the two runners is killed in the middle.

`python examples/quickstart.py FOLDER` makes the task list there; without FOLDER it goes into a new
temporary folder, which stays until you remove it.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from runforrest import TaskList, defer

SIZE = 140
DENSITIES = [0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.60, 0.61, 0.62, 0.64, 0.66]
LAYERS = 30                             # for each density
SECONDS = 100                           # when to give up


# -- the work: ordinary functions ----------------------------------------------------------

def make_layer(density, seed):
    """A square of holes (True) and stone."""
    draw = random.Random(seed).random
    return [[draw() < density for _ in range(SIZE)] for _ in range(SIZE)]


def flood(layer):
    """The holes that water from above gets into, row by row."""
    wet = {(0, x) for x in range(SIZE) if layer[0][x]}
    front = list(wet)
    while front:
        y, x = front.pop()
        for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= place[0] < SIZE and 0 <= place[1] < SIZE and layer[place[0]][place[1]] and place not in wet:
                wet.add(place)
                front.append(place)
    return wet


def summary(layer, wet):
    holes = sum(map(sum, layer))
    return {"through": any(y == SIZE - 1 for y, _ in wet), "wet": len(wet) / holes}


# -- what goes wrong -----------------------------------------------------------------------

def read_null_pointer():
    import ctypes
    ctypes.string_at(0)


def never_ends():
    while True:
        pass


def fails_at_first():
    if os.environ["RUNFORREST_ATTEMPT"].startswith("t1-"):
        raise ConnectionError("the licence server is busy")
    return "got the licence"


def reads_input(file):
    with open(file) as lines:
        return sum(map(float, lines))


def talks():
    print("I ran in process", os.getpid())


# -- the run -------------------------------------------------------------------------------

def schedule(tasks, missing):
    """All tasks as files in todo/; nothing runs yet.  ``missing``: an input file that is not there yet."""
    number = 0
    for density in DENSITIES:
        for seed in range(LAYERS):
            layer = defer(make_layer, density, seed)
            tasks.schedule(defer(summary, layer, defer(flood, layer)), metadata=[density, seed],
                           name=f"layer {density:.2f} {seed}")
            number += 1
            if number in (40, 80, 120):
                tasks.schedule(defer(read_null_pointer), crash_limit=2)
            elif number == 20:
                tasks.schedule(defer(never_ends), timeout=2)
            elif number == 30:
                tasks.schedule(defer(fails_at_first), retries=3)
            elif number == 50:
                tasks.schedule(defer(talks))
            elif number == 60:
                tasks.schedule(defer(reads_input, missing))


def runforrest(*arguments):
    """Start `runforrest …` on the command line."""
    print("  $ runforrest", *arguments, flush=True)
    return subprocess.Popen([sys.executable, "-m", "runforrest", *arguments])


def count(directory):
    """Where the tasks are, as `ls` would tell."""
    found = dict.fromkeys(("todo", "doing", "done", "fail"), 0)
    for state in found:
        for _, _, files in os.walk(os.path.join(directory, state)):
            found[state] += sum(file.endswith(".pkl") for file in files)
    return found


def watch(directory, runners):
    """Print where the tasks are until all are finished, and kill a runner on the way."""
    begun, last, victim = time.monotonic(), -1.0, runners[0]
    while any(runner.poll() is None for runner in runners):
        now = count(directory)
        seconds = time.monotonic() - begun
        if seconds > SECONDS:
            raise SystemExit(f"not finished after {SECONDS} s: {now}")
        if seconds >= last + 1:
            last = seconds
            print(f"  {seconds:4.0f} s  " + "  ".join(f"{state} {n:3}" for state, n in now.items()), flush=True)
        if victim and now["done"] > len(DENSITIES) * LAYERS / 3:
            held = [file for _, _, files in os.walk(os.path.join(directory, "doing")) for file in files]
            print(f"  kill -9 {victim.pid}: a runner is gone; {len(held)} tasks are in doing/", flush=True)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            victim = None
        time.sleep(0.05)
    print(f"  {time.monotonic() - begun:4.0f} s  " + "  ".join(f"{s} {n:3}" for s, n in count(directory).items()))


def report(tasks):
    """What happened, and whether each result is there exactly once; returns what is wrong."""
    done, failed = list(tasks.done_tasks()), list(tasks.fail_tasks())
    attempts = [attempt for task in done + failed for attempt in task.attempts]
    print("\nHow the attempts ended:")
    for outcome, number in Counter(attempt.outcome for attempt in attempts).most_common():
        print(f"  {outcome:10} {number:4}")
    print("\nWhat did not go well at once:")
    for task in done + failed:
        if len(task.attempts) > 1 or task.errorvalue is not None:
            history = ", ".join(f"{a.outcome}{f' ({a.signal})' if a.signal else ''}" for a in task.attempts)
            print(f"  {task.scheduled.name or task.scheduled.label:18} {history}")
    for task in done:
        for attempt in task.attempts:
            if attempt.output:
                print(f"\n{task.scheduled.label} printed: {attempt.output.strip()}")

    print("\nHow often water gets through:")
    for density in DENSITIES:
        values = [t.returnvalue["through"] for t in done if t.metadata and t.metadata[0] == density]
        share = sum(values) / max(1, len(values))
        print(f"  density {density:.2f}  {share:4.0%}  {'#' * round(share * 40)}".rstrip())

    wanted = Counter((density, seed) for density in DENSITIES for seed in range(LAYERS))
    there = Counter(tuple(task.metadata) for task in done if task.metadata)
    wrong = [f"{key}: {there[key]} results" for key in wanted | there if there[key] != 1]
    if Counter(task.scheduled.label for task in failed) != {"read_null_pointer": 3, "never_ends": 1}:
        wrong.append(f"in fail/: {[task.scheduled.label for task in failed]}")
    if {task.scheduled.label for task in done} != {"summary", "fails_at_first", "reads_input", "talks"}:
        wrong.append(f"in done/: {Counter(task.scheduled.label for task in done)}")
    print(f"\n{sum(wanted.values())} results wanted, {sum(there.values())} there, "
          f"{'each exactly once' if not wrong else 'NOT each exactly once: ' + '; '.join(wrong[:5])}.")
    return wrong


def main():
    home = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-")
    directory, missing = os.path.join(home, "tasks"), os.path.abspath(os.path.join(home, "input.txt"))
    os.makedirs(home, exist_ok=True)
    tasks = TaskList(directory)
    schedule(tasks, missing)
    print(f"{count(directory)['todo']} tasks are scheduled, a file each, in {directory}/todo.  Two runners:")
    runners = [runforrest("run", directory, "-n", "2", "--quiet") for _ in range(2)]
    try:
        watch(directory, runners)
        print("\nThe input file that one task missed is there now, so it is tried again:")
        with open(missing, "w") as file:
            file.write("1\n2\n")
        for arguments in (["retry", directory, "--outcome", "raised"], ["run", directory, "--quiet"]):
            runners.append(runforrest(*arguments))
            runners[-1].wait()
    except KeyboardInterrupt:
        print(f"\nInterrupted; `runforrest run {directory}` goes on.")
        return 130
    finally:
        for runner in runners:
            if runner.poll() is None:
                runner.terminate()
                runner.wait()
    wrong = report(tasks)
    print(f"""
The task list is in {directory}; look at it:
  runforrest status {directory}
  runforrest ls {directory} fail
  runforrest show {directory} never_ends
  runforrest retry {directory} never_ends && runforrest run {directory}
  ls {directory}/*""")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

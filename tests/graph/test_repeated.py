"""One function of the main program in many calls: pickled once, and anew as soon as anything about it has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, math, sys
from runforrest.graph import defer, dumps
from runforrest.graph import repeated

FACTOR, OFFSETS = 2, [10]

def inner(x):
    return x * FACTOR

def outer(x, more=1):
    return inner(x) + math.floor(more)

def listed(x):
    return x + OFFSETS[0]

def calls_itself(n):
    return 1 if n < 2 else n * calls_itself(n - 1)

class Own:
    def __init__(self, x):
        self.x = x

def of_class(own):
    return own.x if isinstance(own, Own) else "another class"

def counted():
    counted.calls = getattr(counted, "calls", 0) + 1
    return counted.calls

made, wanted = [], []

def take(task, value):
    data, serializer = dumps(task)
    assert serializer == "dill"
    made.append(data.hex())
    wanted.append(value)

for x in range(3):
    take(defer(outer, x), 2 * x + 1)
take(defer(outer, 1, more=5.5), 7)
remembered = len(repeated._known)
FACTOR = 3                                  # a global of a function that it calls
take(defer(outer, 1), 4)

def inner(x):                               # defined anew
    return -x

take(defer(outer, 1), 0)
outer.__defaults__ = (9,)
take(defer(outer, 1), 8)
take(defer(listed, 1), 11)
OFFSETS[0] = 20                             # a list may change unseen
take(defer(listed, 1), 21)
take(defer(calls_itself, 5), 120)
take(defer(of_class, Own(4)), 4)            # the class and its instance stay together
take(defer(counted), 1)
take(defer(lambda x: x + FACTOR, 1), 4)

def closed(n):
    return lambda x: x + n

take(defer(closed(1), 1), 2)
take(defer(closed(2), 1), 3)
json.dump({"made": made, "wanted": wanted, "remembered": remembered}, sys.stdout)
"""

READER = """
import json, sys
from runforrest.graph import evaluate, loads
print(json.dumps([evaluate(loads(bytes.fromhex(text))) for text in json.load(sys.stdin)]))
"""


def test_calls_evaluate_as_they_were_scheduled(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    answer = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True,
                            env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["remembered"] == 1
    read = subprocess.run([sys.executable, "-c", READER], input=json.dumps(found["made"]), capture_output=True,
                          text=True, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == found["wanted"]


def test_metadata_that_needs_the_whole(tmp_path: Path) -> None:
    """An instance of a class of the main program beside the call: then all goes into one pickle."""
    (tmp_path / "program.py").write_text("""
from runforrest import TaskList, defer
class Own:
    pass
def f(x):
    return x
tasks = TaskList("list")
for _ in range(2):
    tasks.schedule(defer(f, 1), metadata=Own())
print([type(task.metadata).__name__ for task in tasks.run(1)])
""")
    answer = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True,
                            env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})
    assert answer.stdout == "['Own', 'Own']\n", answer.stderr



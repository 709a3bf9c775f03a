"""`save_session`: names are looked up when the tasks run, and the library itself is among the variables."""
import math as m

import runforrest as rf
from runforrest import TaskList, defer

X = 1


def by_name(n):
    return eval('X') + globals()['X'] + X + n + int(m.sqrt(4))


def by_function():
    return by_name(0) * 2


tasklist = TaskList('list')
tasklist.schedule(defer(by_name, 1), metadata=1)
tasklist.schedule(defer(by_function), metadata=2)
tasklist.schedule(rf.defer(lambda: X), metadata=3)
X = 10
run = tasklist.run(nprocesses=2, save_session=True)
for task in sorted(run, key=lambda t: t.metadata):
    print(task.metadata, task.returnvalue, task.errorvalue)

"""Metadata says which result is which, since tasks come as they finish."""
import time

from runforrest import TaskList, defer


def simulate(length, width=1):
    time.sleep(0.01 * (5 - length))
    if length == 3:
        raise ValueError(f'no length {length}')
    return length * width


tasklist = TaskList('study')
for length in range(5):
    scheduled = defer(simulate, length, width=7)
    tasklist.schedule(scheduled, metadata={'length': length, 'tags': ('a', length)})
    print(scheduled.metadata, scheduled.returnvalue, scheduled.errorvalue)

print(sorted(str(t.metadata) for t in tasklist.todo_tasks()))
run = tasklist.run(nprocesses=2)
print(len(run), len(list(tasklist.todo_tasks())))
results = {}
number = 0
for task in run:
    number += 1
    assert type(task.runtime) is float and 0 <= task.runtime < 60
    results[task.metadata['length']] = (task.returnvalue, task.errorvalue, task.metadata['tags'])
print(number, 'tasks')
for length, (returnvalue, errorvalue, tags) in sorted(results.items()):
    print(length, returnvalue, repr(errorvalue), tags)
print(sorted(t.returnvalue for t in tasklist.done_tasks()))
print([(t.metadata['length'], repr(t.errorvalue), t.returnvalue) for t in tasklist.fail_tasks()])
print(len(list(tasklist.todo_tasks())))

"""Failed tasks: looked at, raised, and moved from fail/ to todo/ once the cause is gone."""
import os
import shutil

from lab import analyse

from runforrest import TaskList, defer


def show(tasks):
    print([len(list(found)) for found in (tasks.todo_tasks(), tasks.done_tasks(), tasks.fail_tasks())])


tasks = TaskList('list')
for number in range(6):
    tasks.schedule(defer(analyse, number), metadata=number)
good, bad = [], []
for task in tasks.run(nprocesses=3):
    if task.errorvalue:
        bad.append(task)
        assert task.returnvalue is None
    else:
        good.append(task.returnvalue)
print(sorted(good))
for task in sorted(bad, key=lambda t: t.metadata):
    print(task.metadata, type(task.errorvalue).__name__, task.errorvalue.args)
try:
    raise next(t for t in bad if t.metadata == 5).errorvalue
except KeyError as error:
    print('caught', repr(error))
show(tasks)
open('repaired', 'w').close()
for name in os.listdir('list/fail'):
    shutil.move(os.path.join('list/fail', name), os.path.join('list/todo', name))
show(tasks)
tasks = TaskList('list', exist_ok=True, pre_clean=False)
print(sorted((t.metadata, t.returnvalue) for t in tasks.run()))
show(tasks)
# and once more from the results: a done task is a task
again = sorted(tasks.done_tasks(), key=lambda t: t.metadata)[:2]
tasks.clean()
tasks = TaskList('list')
for task in again:
    tasks.schedule(task, metadata='again')
print(sorted((t.metadata, t.returnvalue, t.errorvalue) for t in tasks.run()))

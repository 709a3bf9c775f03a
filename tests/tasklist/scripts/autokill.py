"""`autokill`: tasks that hang are ended."""
import time

from runforrest import TaskList, defer


def maybe_hang(seconds):
    time.sleep(seconds)
    return seconds


tasklist = TaskList('list')
for seconds in (0.01, 600, 0.02):
    tasklist.schedule(defer(maybe_hang, seconds), metadata=seconds)
run = tasklist.run(nprocesses=3, autokill=2)
finished = list(run)
print(len(run), 'tasks;', sorted(t.returnvalue for t in finished if t.errorvalue is None))
for task in finished:
    if task.errorvalue is not None:
        error = task.errorvalue
        print(task.metadata, type(error).__name__, isinstance(error, TimeoutError), task.returnvalue)
print(len(list(tasklist.todo_tasks())), len(list(tasklist.done_tasks())), len(list(tasklist.fail_tasks())))

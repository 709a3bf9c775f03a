"""The example of RunForrest's README."""
from lab import prepare

from runforrest import TaskList, defer


def dostuff(number, text):
    return f"{text}: {number}"


tasklist = TaskList('tasklist')
for item in range(5):
    task = defer(prepare, item)
    task = defer(dostuff, task[1], task.thing)
    tasklist.schedule(task)

results = []
for task in tasklist.run(nprocesses=4):
    results.append(task.returnvalue)
for result in sorted(results):
    print(result)

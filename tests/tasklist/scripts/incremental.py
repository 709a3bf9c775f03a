"""Tasks that are scheduled while a run is going on wait for the next one."""
from runforrest import TaskList, defer

tasklist = TaskList('list')
for number in (3, 2, 1):
    tasklist.schedule(defer(divmod, number, 2), metadata=number)
rounds = 0
while len(run := tasklist.run(nprocesses=2)):
    rounds += 1
    seen = []
    for task in run:
        seen.append(task.metadata)
        if task.returnvalue[0]:
            tasklist.schedule(defer(divmod, task.returnvalue[0], 2), metadata=task.metadata * 10)
    print(rounds, len(run), sorted(seen))
print(sorted(t.metadata for t in tasklist.done_tasks()))

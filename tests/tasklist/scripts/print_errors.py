"""`print_errors`: what went wrong is on the terminal as well."""
from runforrest import TaskList, defer


def divide(a, b):
    return a / b


tasklist = TaskList('list')
tasklist.schedule(defer(divide, 1, 0))
tasklist.schedule(defer(divide, 1, 2))
results = [task.returnvalue for task in tasklist.run(nprocesses=1, print_errors=True)]
print(len(list(tasklist.done_tasks())), len(list(tasklist.fail_tasks())))

"""What happens with a folder that is there already."""
import os
import sys

from runforrest import TaskList, defer


def fill(tasks, values):
    for value in values:
        tasks.schedule(defer(abs, value))


def show(what, tasks):
    print(what, sorted(t._args[0] for t in tasks.todo_tasks()), sorted(t.returnvalue for t in tasks.done_tasks()))


tasks = TaskList('list')
fill(tasks, [-1, -2])
try:
    TaskList('list')
except RuntimeError as error:
    print('RuntimeError:', str(error)[:36])
show('after the refusal', tasks)
tasks = TaskList('list', exist_ok=True, pre_clean=False)
fill(tasks, [-3])
show('appended', tasks)
print(sorted(t.returnvalue for t in tasks.run()))
fill(tasks, [-4])
show('run, and one more', tasks)
tasks = TaskList('list', True, True)
show('cleaned before', tasks)
fill(tasks, [-5])
print([t.returnvalue for t in tasks.run(1)])
print([os.path.isdir(os.path.join('list', name)) for name in ('todo', 'done', 'fail')])
tasks.clean(clean_todo=True, clean_done=False, clean_fail=False)
print(len(list(tasks.done_tasks())), 'done after cleaning todo')
tasks = TaskList('list', exist_ok=True, pre_clean=True, post_clean=True)
fill(tasks, [-6])
del tasks
print(os.path.exists('list'), 'after post_clean')
tasks = TaskList('list')
tasks.clean()
print(os.path.exists('list'), 'after clean')
sys.stdout.flush()

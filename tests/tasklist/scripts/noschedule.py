"""`noschedule_if_exist`: the script is started again after an interruption, and goes on."""
import os
import shutil
import subprocess
import sys

from runforrest import TaskList, defer


def work(number):
    with open('executed', 'a') as file:
        file.write(f'{number}\n')
    return number ** 2


if len(sys.argv) > 1:
    tasks = TaskList('list', noschedule_if_exist=True)
    for number in range(6):
        tasks.schedule(defer(work, number), metadata=number)
    run = tasks.run(nprocesses=1)
    print('to do:', len(run), flush=True)
    if sys.argv[1] == 'interrupted':
        next(iter(run))
        os.kill(os.getpid(), 9)
    print('results:', sorted(t.returnvalue for t in run), flush=True)
else:
    if os.path.isdir('first'):
        shutil.rmtree('first')
    subprocess.run([sys.executable, __file__, 'whole'])
    subprocess.run([sys.executable, __file__, 'whole'])
    with open('executed') as executed:
        print('executed', len(executed.readlines()))
    print(sorted(t.metadata for t in TaskList('list', noschedule_if_exist=True).done_tasks()))
    TaskList('list', exist_ok=True).clean()
    subprocess.run([sys.executable, __file__, 'interrupted'])
    subprocess.run([sys.executable, __file__, 'whole'], stdout=subprocess.DEVNULL)
    tasks = TaskList('list', noschedule_if_exist=True)
    print(sorted(t.returnvalue for t in tasks.done_tasks()), len(list(tasks.todo_tasks())))

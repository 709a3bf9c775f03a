"""Made the folders beside this file: with RunForrest 0.4.3, dill 0.4.1 and Python 3.11.

Run it in an empty folder with the `python` of such an environment first in PATH.
"""
import operator
import os

from runforrest import TaskList, defer


def fill(tasks):
    tasks.schedule(defer(operator.add, 1, 2), metadata='sum')
    pair = defer(divmod, 17, 5)
    tasks.schedule(defer(operator.mul, pair[0], pair[1]), metadata='items')
    tasks.schedule(defer(complex, 3, 4).imag, metadata='attribute')
    tasks.schedule(defer(operator.truediv, 1, 0), metadata={'bad': True})


def name(directory):
    """The names are random: give them speaking ones."""
    for state in ('todo', 'done', 'fail'):
        tasks = TaskList(directory, exist_ok=True, pre_clean=False)
        found = [os.path.join(directory, state, f) for f in os.listdir(os.path.join(directory, state))]
        for path, task in zip(found, list(getattr(tasks, state + '_tasks')()), strict=True):
            word = task.metadata if isinstance(task.metadata, str) else 'bad'
            os.rename(path, os.path.join(directory, state, f'{word}.pkl'))


waiting, finished = TaskList('waiting'), TaskList('finished')
fill(waiting)
fill(finished)
list(finished.run())
data = TaskList('data')
data.schedule(defer(42), metadata='data')
data.schedule(defer([1, 2, 3])[1], metadata='item')
python311 = TaskList('python311')
python311.schedule(defer(lambda x: x + 1, 5), metadata='lambda')
for directory in ('waiting', 'finished', 'data', 'python311'):
    name(directory)

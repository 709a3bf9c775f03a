"""A call graph: shared parts run once, items and attributes of results, data, functions of the standard library."""
import operator

from lab import load

from runforrest import TaskList, defer


def combine(*parts, sep='-', **named):
    return sep.join(map(str, parts)) + ''.join(f'{sep}{k}={v}' for k, v in sorted(named.items()))


tasklist = TaskList('graph')
data = defer(load, 'raw')
tasklist.schedule(defer(combine, data['name'], data['numbers'][0], data['numbers'][3].imag,
                        last=data['nested']['deep'][1], sep='/'), 1)
tasklist.schedule(data['numbers'][3].real, 2)
tasklist.schedule(defer(operator.add, defer(operator.mul, 6, 7), defer(max, 1, 2)), 3)
table = defer({'a': [10, 20, 30]})
tasklist.schedule(defer(sum, table['a']), 4)
tasklist.schedule(table['a'][1], 5)
x = defer(range, 100)
for _ in range(50):
    x = defer(lambda r: range(len(r) - 1), x)
tasklist.schedule(defer(len, x), 6)
for task in sorted(tasklist.run(nprocesses=3), key=lambda t: t.metadata):
    print(task.metadata, task.returnvalue, task.errorvalue)
with open('calls') as file:
    print(len(file.readlines()), 'calls of load for two tasks that need it')

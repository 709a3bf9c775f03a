"""`save_session`: globals and imports of this script, used in lambdas."""
import math
import string as letters

from runforrest import TaskList, defer

FACTOR = 3
TABLE = {'a': 1, 'b': [2, 3]}


class Shape:
    corners = 4

    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side ** 2 * FACTOR


def helper(x):
    return math.sqrt(x) * FACTOR


shape = Shape(2)
tasklist = TaskList('list')
tasklist.schedule(defer(lambda x: helper(x) + len(letters.digits), 16), metadata=1)
tasklist.schedule(defer(lambda: TABLE['b'][1] * FACTOR), metadata=2)
tasklist.schedule(defer(lambda: shape.area()), metadata=3)
tasklist.schedule(defer(Shape(5).area), metadata=4)
run = tasklist.run(nprocesses=2, save_session=True)
for task in sorted(run, key=lambda t: t.metadata):
    print(task.metadata, task.returnvalue, task.errorvalue)

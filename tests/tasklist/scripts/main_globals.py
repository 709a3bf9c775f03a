"""Functions of the script that use its globals, classes and imports: without `save_session`.

RunForrest 0.4 ends all of them with NameError.
"""
import math

from runforrest import TaskList, defer

FACTOR = 3


class Shape:
    corners = 4

    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side ** 2 * FACTOR


def helper(x):
    return math.sqrt(x) * FACTOR


tasklist = TaskList('list')
tasklist.schedule(defer(helper, 16), metadata=1)
tasklist.schedule(defer(lambda side: Shape(side).area(), 2), metadata=2)
tasklist.schedule(defer(lambda: [helper(n * n) for n in range(Shape.corners)]), metadata=3)
tasklist.schedule(defer(Shape(5).area), metadata=4)
tasklist.schedule(defer(Shape, 6).side, metadata=5)
for task in sorted(tasklist.run(nprocesses=2), key=lambda t: t.metadata):
    print(task.metadata, task.returnvalue, repr(task.errorvalue))

"""`Executor`: a `concurrent.futures.Executor` whose calls are the tasks of a task list, and outlive their program.

    with Executor("DIR") as executor:
        future = executor.submit(pow, 2, 8)
        print(future.name, future.result())

    Executor("DIR").future(name).result()           # later, elsewhere
"""

from runforrest.futures.executor import Executor
from runforrest.futures.future import Future

__all__ = ["Executor", "Future"]

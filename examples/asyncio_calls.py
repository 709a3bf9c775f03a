"""Calls and task lists in a program of asyncio: `python examples/asyncio_calls.py`.

The loop stays free while the calls run, in processes that can be killed: one of them takes too long, and is.

`python examples/asyncio_calls.py FOLDER` makes the task lists there; without FOLDER they go into a new
temporary folder, which stays until you remove it.
"""

import asyncio
import os
import sys
import tempfile
import time

from runforrest import Executor, TaskList, defer


def collatz(number):
    """How many steps it takes from this number to 1."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


async def tick(ticks):
    while True:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.01)


async def calls(executor):
    """Awaited all together, and one with a time limit."""
    loop = asyncio.get_running_loop()
    steps = await asyncio.gather(*(loop.run_in_executor(executor, collatz, n) for n in (6, 27, 97, 871)))
    print("steps:", steps)
    try:
        await asyncio.wrap_future(executor.options(timeout=0.5, grace=0.1).submit(time.sleep, 1000))
    except TimeoutError as error:
        print("too long:", type(error).__name__)
    return steps


async def run(tasks):
    """`async for` over a run."""
    return sorted([task.returnvalue async for task in tasks.run(nprocesses=2)])


async def main(home):
    ticks = []
    ticking = asyncio.create_task(tick(ticks))
    with Executor(os.path.join(home, "calls"), max_workers=2) as executor:
        steps = await calls(executor)
    tasks = TaskList(os.path.join(home, "tasks"))
    for number in range(2, 8):
        tasks.schedule(defer(collatz, number))
    found = await run(tasks)
    print("steps of a task list:", found)
    ticking.cancel()
    print("the loop was free meanwhile:", len(ticks) > 10)
    return 0 if steps == [8, 111, 118, 178] and found == [1, 2, 5, 7, 8, 16] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-"))))

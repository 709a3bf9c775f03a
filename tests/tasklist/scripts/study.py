"""A parameter study as people write them: a local module, closures, progress by len, results as they come."""
import itertools
import os

import lab

from runforrest import TaskList, defer


def make_filter(low, high):
    def inside(values):
        return [v for v in values if low <= v <= high]
    return inside


def summarise(values, *, unit):
    return f'{len(values)} {unit}'


def main():
    grid = list(itertools.product([1, 2, 3], [0.5, 1.5]))
    tasks = TaskList('study', exist_ok=True, post_clean=True)
    keep = make_filter(1, 4)
    for a, b in grid:
        raw = defer(lab.simulate, a, b)
        kept = defer(keep, raw.samples)
        tasks.schedule(defer(summarise, kept, unit=raw.unit), metadata=(a, b))
    run = tasks.run(nprocesses=os.cpu_count() / 2, print_errors=True)
    table = {}
    for count, task in enumerate(run):
        progress = (count + 1) / len(run)
        table[task.metadata] = task.returnvalue
    print(f'{progress:.0%}')
    for key in grid:
        print(key, table[key])
    return tasks


if __name__ == '__main__':
    tasks = main()
    del tasks
    print(os.path.exists('study'))

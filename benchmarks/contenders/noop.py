"""The task that is measured, as an importable function."""


def noop(i):
    return i

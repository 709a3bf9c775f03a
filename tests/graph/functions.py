"""Importable functions for the tests."""

from __future__ import annotations

from typing import Any

from runforrest import deferred

calls: list[Any] = []


def increment(x: int) -> int:
    return x + 1


def add(*numbers: Any, **more: Any) -> Any:
    return sum([*numbers, *more.values()])


def note(x: Any) -> Any:
    calls.append(x)
    return x


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(message: str) -> None:
    raise KeyError(message)


def simulate(speed: object, lock: object = None) -> None: ...


class Model:
    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.name = "model"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.size == self.size

    def fit(self, x: int, scale: int = 1) -> int:
        return (self.size + x) * scale


class Task1:
    """An innocent class with Task in its name."""

    def __init__(self) -> None:
        self.value = 3


class ExportTask(Task1):
    pass


@deferred
def halved(x: float) -> float:
    """Half of it."""
    return x / 2


class Shop:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @deferred
    def price(self, count: int) -> int:
        return self.factor * count

"""A main program whose classes go to other processes and come back."""

import abc
import enum
import sys
from collections import namedtuple
from dataclasses import dataclass

from runforrest import Executor, TaskList, defer


class OwnError(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


@dataclass
class Point:
    x: int

    def moved(self):
        return Point(self.x + step)


class Colour(enum.Enum):
    RED = 1

    def upper(self):
        return self.name


class Bits(enum.Flag):
    A = 1
    B = 2


class Base(abc.ABC):
    @abc.abstractmethod
    def size(self): ...


class Derived(Base):
    __slots__ = ("number",)

    def __init__(self, number):
        super().__init__()
        self.number = number

    def size(self):
        return self.number


class Box(list[int]):                              # made by types.new_class
    def double(self):
        return self + self


class Meta(type):
    pass


class Made(metaclass=Meta):
    pass


Pair = namedtuple("Pair", "a b")
step = 1
KINDS = {"Point": lambda: Point(3), "Colour": lambda: Colour.RED, "Bits": lambda: Bits.A | Bits.B,
         "Derived": lambda: Derived(4), "Box": lambda: Box([Point(1)]), "Made": Made, "Pair": lambda: Pair(1, 2)}


def changed():
    class Point:                                    # another one, of the same name
        y = 1
    Point.__qualname__ = "Point"
    return Point()


def fails():
    raise OwnError(7)


def main():
    global step
    found, method, method2 = [], Colour.upper, Box.double
    with Executor(sys.argv[1], 1, durability="none") as executor:
        for name, call in KINDS.items():
            value = executor.submit(call).result(60)
            found.append((name, isinstance(value, globals()[name])))
        assert executor.submit(KINDS["Colour"]).result(60) is Colour.RED and Colour.upper is method
        assert executor.submit(KINDS["Point"]).result(60) == Point(3)
        assert Box.double is method2
        step = 10
        assert executor.submit(KINDS["Point"]).result(60).moved() == Point(13)
        assert isinstance(executor.submit(KINDS["Box"]).result(60)[0], Point)
        assert executor.submit(KINDS["Derived"]).result(60).size() == 4
        assert not isinstance(executor.submit(changed).result(60), Point)
        try:
            executor.submit(fails).result(60)
        except OwnError as error:
            found.append(("OwnError", error.code == 7))
    tasks = TaskList(sys.argv[1] + "-list", durability="none")
    tasks.schedule(defer(KINDS["Point"]))
    found += [("task", task.returnvalue == Point(3)) for task in tasks.run(1)]
    print(found)


if __name__ == "__main__":
    main()

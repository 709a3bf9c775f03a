"""Run as ``__main__``: writes one file per case, made by ``dumps`` of a task of this program.

The cases are what people write in scripts.  Another interpreter, which has never seen this
file, loads and evaluates them; the value must be the one in ``CASES``.
"""

import abc
import dataclasses
import enum
import functools
import json.decoder
import math as m
import sys
import threading
import typing
from math import sqrt
from pathlib import Path

from runforrest.graph import defer, dumps

CONST = [1, 2]
LOCK = threading.Lock()
N = 0
T = typing.TypeVar("T")


def uses_global(x):
    return [*CONST, x]


def uses_modules(x):
    return m.sqrt(x) + sqrt(x), json.decoder.JSONDecodeError.__name__


def helper(x):
    return x + 1


def calls(x):
    return helper(x)


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


def inner_recursion():
    def f(n):
        return 1 if n < 2 else n * f(n - 1)

    return f


def inner_mutual_recursion():
    def e(k):
        return True if k == 0 else o(k - 1)

    def o(k):
        return False if k == 0 else e(k - 1)

    return e


def closure(k):
    return lambda x: x + k


def counter():
    n = 0

    def increase():
        nonlocal n
        n += 1

    def get():
        return n

    return increase, get


INCREASE, GET = counter()


def shared_cell():
    INCREASE()
    return GET()


def increase_global():
    global N
    N += 1


def shared_global():
    increase_global()
    increase_global()
    return N


def locked(x):
    with LOCK:
        return x


recursive_lambda = lambda n: 1 if n < 2 else n * recursive_lambda(n - 1)  # noqa: E731


def decorate(fun):
    @functools.wraps(fun)
    def wrapper(*args):
        return fun(*args)

    return wrapper


@decorate
def decorated(x):
    return helper(x)


@functools.lru_cache(None)
def cached(x):
    return helper(x)


@functools.singledispatch
def dispatched(x):
    return "object"


@dispatched.register
def _(x: int):
    return "int"


def default_is_function(x, fun=helper):
    return fun(x)


def comprehension():
    return [helper(i) for i in CONST] + [(lambda: helper(1))()]


class Base:
    def __init__(self, v):
        self.v = v

    def hi(self):
        return "base"


class Vec(Base):
    def __init__(self, v):
        super().__init__(v)

    def hi(self):
        return "vec" + super().hi()

    def __eq__(self, other):
        return isinstance(other, Vec) and other.v == self.v

    def plus(self, k):
        return helper(self.v) + k

    @classmethod
    def make(cls, v):
        return cls(v)

    @staticmethod
    def factorial(n):
        return factorial(n)

    @property
    def double(self):
        return self.v * 2


class SubVec(Vec):
    def hi(self):
        return "sub" + super(SubVec, self).hi()  # noqa: UP008


def of_vec(v):
    return (
        isinstance(v, Vec),
        v == Vec(3),
        v.hi(),
        v.double,
        Vec.make(4).v,
        Vec.factorial(3),
        type(Vec(1)) is Vec,
    )


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    more: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


@dataclasses.dataclass
class Tree:
    children: "list[Tree]" = dataclasses.field(default_factory=list)

    def size(self):
        return 1 + sum(child.size() for child in self.children if isinstance(child, Tree))


def of_point(p):
    return isinstance(p, Point), p == Point(1, 2), dataclasses.replace(p, x=9).x, p.more


def of_frozen(p):
    return isinstance(p, Frozen), p == Frozen(1), hash(p) == hash(Frozen(1))


class Pair(typing.NamedTuple):
    a: int
    b: int = 2

    def total(self):
        return self.a + helper(self.b)


def of_pair(pair):
    return isinstance(pair, Pair), pair.total(), pair == Pair(1)


class Planet(enum.Enum):
    EARTH = (1.0, 2.0)
    MARS = (3.0, 4.0)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def gravity(self):
        return self.mass / self.radius

    @classmethod
    def first(cls):
        return cls.EARTH

    def is_home(self):
        return self is Planet.EARTH


class Permission(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    RW = R | W


class Mode(str, enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
    TOP = 2


def of_enums(planet):
    return (
        planet is Planet.MARS,
        planet.gravity,
        Planet.first().is_home(),
        Permission.RW == Permission.R | Permission.W,
        Mode("fast") is Mode.FAST,
        Mode.SLOW == "slow",
        Level.TOP is Level.HIGH,
        Level.LOW < 2,
        [one.name for one in Planet],
    )


class Abstract(abc.ABC):
    @abc.abstractmethod
    def go(self): ...


class Concrete(Abstract):
    def go(self):
        return 5


def of_abstract(x):
    try:
        Abstract()
    except TypeError:
        return isinstance(x, Abstract), x.go()


class Generic(typing.Generic[T]):
    def __init__(self, x):
        self.x = x


def of_generic(x):
    return isinstance(x, Generic), x.x


class Meta(type):
    def __new__(mcls, name, bases, body):
        body["tag"] = helper(1)
        return super().__new__(mcls, name, bases, body)


class WithMeta(metaclass=Meta):
    def own_tag(self):
        return WithMeta.tag


class Announcing:
    names: typing.ClassVar[list] = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Announcing.names.append(cls.name)


class Announced(Announcing):
    name = "sub"

    def check(self):
        return isinstance(self, Announced), Announced.name


REGISTRY = {}


def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls


@register
class Registered:
    def check(self):
        return REGISTRY["Registered"] is Registered is type(self)


class Failure(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


def raises_own():
    try:
        raise Failure(1, 2)
    except Failure as error:
        return error.b


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def of_slotted(x):
    return isinstance(x, Slotted), x.a


class Outer:
    class Inner:
        def outer(self):
            return Outer


def of_nested(x):
    return isinstance(x, Outer.Inner), x.outer() is Outer


generator = (i for i in range(3))  # can't be pickled; and `.generator` below is not this


class HasGenerator:
    generator = 1


def attribute_named_as_a_global(x):
    return x.generator


def is_helper(fun):
    return fun is helper


def annotated(x: Vec) -> "Vec":
    return Vec(x).v


def of_containers(value):
    return value


CASES = {
    "global": ((uses_global, 3), [1, 2, 3]),
    "module aliases": ((uses_modules, 4), (4.0, "JSONDecodeError")),
    "other function": ((calls, 1), 2),
    "recursion": ((factorial, 5), 120),
    "mutual recursion": ((even, 9), False),
    "recursive closure": ((inner_recursion(), 4), 24),
    "mutually recursive closures": ((inner_mutual_recursion(), 7), False),
    "closure": ((closure(3), 1), 4),
    "cell of two functions": ((shared_cell,), 1),
    "global set by another function": ((shared_global,), 2),
    "global lock": ((locked, 3), 3),
    "lambda": ((lambda x: helper(x) + 1, 1), 3),
    "recursive lambda": ((recursive_lambda, 4), 24),
    "decorated": ((decorated, 1), 2),
    "lru_cache": ((cached, 1), 2),
    "singledispatch": ((dispatched, 1), "int"),
    "default": ((default_is_function, 1), 2),
    "comprehension": ((comprehension,), [2, 3, 2]),
    "partial": ((functools.partial(calls, 3),), 4),
    "bound method": ((Vec(3).plus, 1), 5),
    "bound method with super": ((SubVec(3).hi,), "subvecbase"),
    "instance": ((of_vec, Vec(3)), (True, True, "vecbase", 6, 4, 6, True)),
    "instance of subclass": ((of_vec, SubVec(3)), (True, True, "subvecbase", 6, 4, 6, True)),
    "dataclass": ((of_point, Point(1, 2)), (True, True, 9, [])),
    "frozen dataclass": ((of_frozen, Frozen(1)), (True, True, True)),
    "dataclass of itself": ((Tree.size, Tree([Tree(), Tree()])), 3),
    "dataclass with a task in it": ((of_point, Point(1, 2, [defer(helper, 1)])), (True, False, 9, [2])),
    "named tuple": ((of_pair, Pair(1)), (True, 4, True)),
    "named tuple with a task in it": ((of_pair, Pair(defer(helper, 0))), (True, 4, True)),
    "enum": (
        (of_enums, Planet.MARS),
        (True, 0.75, True, True, True, True, True, True, ["EARTH", "MARS"]),
    ),
    "abstract class": ((of_abstract, Concrete()), (True, 5)),
    "generic class": ((of_generic, Generic[int](1)), (True, 1)),
    "metaclass": ((WithMeta().own_tag,), 2),
    "init_subclass": ((Announced().check,), (True, "sub")),
    "registry": ((Registered().check,), True),
    "exception": ((raises_own,), 2),
    "slots": ((of_slotted, Slotted(1)), (True, 1)),
    "nested class": ((of_nested, Outer.Inner()), (True, True)),
    "attribute named as a global": ((attribute_named_as_a_global, HasGenerator()), 1),
    "function as argument": ((is_helper, helper), True),
    "annotations": ((annotated, 1), 1),
    "builtin with function of main": ((functools.reduce, lambda a, b: a + b, [1, 2]), 3),
    "containers": ((of_containers, {"a": [defer(helper, 1), (2,)]}), {"a": [2, (2,)]}),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    chain = defer(helper, 0)
    for _ in range(100_000 - 1):
        chain = defer(helper, chain)
    tasks = {name: defer(*call) for name, (call, _) in CASES.items()}
    tasks["chain"] = chain
    for name, task in tasks.items():
        data, writer = dumps(task)
        folder.joinpath(f"{name}.{writer}").write_bytes(data)

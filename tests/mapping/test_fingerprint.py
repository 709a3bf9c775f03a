"""What counts as a change of a function or an argument, and what does not."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.errors import UnpicklableError
from runforrest.mapping.fingerprint import of_function, of_value
from runforrest.mapping.imports import is_installed

Tried = Callable[[str, int], None]
ROOT = Path(__file__).resolve().parent.parent.parent

BASE = """
    import functools, math
    import helpers
    N = 5
    TABLE = [1, 2]

    class Model:
        '''A docstring.'''
        power = 2

        def __init__(self, x):
            self.x = x

        def run(self):
            return self.x ** self.power

        @property
        def twice(self):
            return 2 * self.x

    @functools.lru_cache
    def cached(x):
        return x + 1

    def text():
        return 'text'

    def helper(x):
        '''Another one.'''
        return x + N + len(text())  # a comment

    def make(k):
        def inner(x, scale=1.0):
            try:
                found = [helper(y) * k for y in (x, 2)]
            except ValueError:
                found = []
            return found, Model(x).run(), math.sin(x), helpers.double(x), cached(x), TABLE
        return inner

    work = make(3)
"""
HELPERS = "LIMIT = 7\ndef double(x):\n    return 2 * x\n\ndef unused(x):\n    return x\n"

COUNTS = {
    "a number in the code": ("x ** self", "x ** 3 * self"),
    "a constant": ("N = 5", "N = 6"),
    "the value closed over": ("make(3)", "make(4)"),
    "a default": ("scale=1.0", "scale=2.0"),
    "a function that it calls": ("return x + N", "return x - N"),
    "a method of a class": ("self.x ** self.power", "self.x * self.power"),
    "an attribute of a class": ("power = 2", "power = 3"),
    "a property of a class": ("return 2 * self.x", "return 3 * self.x"),
    "a cached function": ("return x + 1", "return x + 2"),
    "what is called of another module": ("math.sin", "math.cos"),
    "a comprehension": ("for y in (x, 2)", "for y in (x, 3)"),
    "a text that is no docstring": ("return 'text'", "return 'other'"),
    "what is caught": ("except ValueError", "except KeyError")}
DOES_NOT = {
    "a comment": ("# a comment", "# another comment, much longer"),
    "a docstring": ("'''Another one.'''", "'''Quite a different one.'''"),
    "the docstring of a class": ("'''A docstring.'''", "'''Its docstring.'''"),
    "blank lines": ("def make(k):", "\n\n    def make(k):"),
    "the name of a local variable": ("found", "results"),
    "a list among the globals": ("TABLE = [1, 2]", "TABLE = [1, 2, 3]")}


def digest(source: str, helpers: str = HELPERS) -> str:
    sys.modules["helpers"] = module = ModuleType("helpers")
    try:
        exec(compile(helpers, "/home/me/helpers.py", "exec"), vars(module))
        module.__file__ = "/home/me/helpers.py"
        sys.modules["program"] = program = ModuleType("program")
        program.__file__ = "/home/me/program.py"
        exec(compile(textwrap.dedent(source), "/home/me/program.py", "exec"), vars(program))
        return of_function(program.work)
    finally:
        del sys.modules["helpers"], sys.modules["program"]


@pytest.mark.parametrize("what", COUNTS)
def test_what_counts(what: str) -> None:
    old, new = COUNTS[what]
    assert old in BASE
    assert digest(BASE) != digest(BASE.replace(old, new))


@pytest.mark.parametrize("what", DOES_NOT)
def test_what_does_not(what: str) -> None:
    old, new = DOES_NOT[what]
    assert old in BASE
    assert digest(BASE) == digest(BASE.replace(old, new))


def test_modules_of_ones_own() -> None:
    assert digest(BASE) != digest(BASE, HELPERS.replace("2 * x", "3 * x"))
    assert digest(BASE) == digest(BASE, HELPERS.replace("return x\n", "return -x\n")), "what is not mentioned"


def test_what_is_closed_over_and_can_not_be_taken_apart() -> None:
    def make(lock: Any) -> Callable[[int], int]:
        return lambda x: x if lock else 0
    assert of_function(make(threading.Lock())) == of_function(make(threading.Lock()))
    assert of_function(make(threading.Lock())) != of_function(make(threading.Event()))


def test_callables_of_all_kinds() -> None:
    import functools
    import operator
    found = [of_function(each) for each in (len, operator.add, functools.partial(max, 1), functools.partial(max, 2),
                                            "a".join, "b".join, str, lambda: 1, lambda: 2)]
    assert len(set(found)) == len(found)


def test_installed() -> None:
    assert is_installed(textwrap.__file__) and is_installed(pytest.__file__) and is_installed(None)
    assert not is_installed(__file__) and not is_installed("<stdin>")


# -- values ------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | \
    st.binary(max_size=5) | st.complex_numbers(allow_nan=False)
HASHABLE = SCALARS | st.tuples(SCALARS, SCALARS) | st.frozensets(SCALARS, max_size=3)
VALUES = st.recursive(HASHABLE, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
                      | st.dictionaries(HASHABLE, inner, max_size=3) | st.sets(HASHABLE, max_size=3), max_leaves=8)


@given(VALUES)
def test_a_copy_has_the_same(value: Any) -> None:
    assert of_value(value) == of_value(copy.deepcopy(value))


@given(VALUES, VALUES)
def test_others_have_others(first: Any, second: Any) -> None:
    if first != second:
        assert of_value(first) != of_value(second)
    assert of_value([first, [second]]) != of_value([[first], second])


def test_identity_does_not_count() -> None:
    text = "".join(["a", "b"])
    assert of_value([text, text]) == of_value(["ab", "".join(["a", "b"])])
    mine: list[Any] = [1]
    assert of_value([mine, mine]) == of_value([[1], [1]])
    mine.append(mine)
    assert of_value(mine) == of_value(copy.deepcopy(mine))


def test_arrays() -> None:
    import numpy as np
    array = np.arange(12).reshape(3, 4)
    assert of_value(array) == of_value(array.copy()) == of_value(np.asfortranarray(array))
    different = [array, array + 1, array.T, array.astype(float), array.ravel(), np.float64(1), np.float32(1), 1.0,
                 np.array([1, None])]
    assert len({of_value(each) for each in different}) == len(different)


def test_what_can_not_be_pickled() -> None:
    with pytest.raises(UnpicklableError, match="lock"):
        of_value({"a": threading.Lock()})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnpicklableError, match="too deeply"):
        of_value(deep)


def test_the_same_in_another_process(tmp_path: Path, tried: Tried) -> None:
    """With other hashes of texts, and so other orders of sets."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import dataclasses, datetime, enum, fractions, pathlib, random
        from runforrest.mapping.fingerprint import of_function, of_value
        @dataclasses.dataclass
        class Point:
            x: int
            tags: frozenset = frozenset({"a", "b", "c", "d"})
        class Color(enum.Enum):
            RED = 1
        def work(p, known={"x", "y", "z"}):
            return p.x in {"a", "b", "c"} or Color.RED
        for value in (Point(1), Color.RED, {"a", "b", "c"}, {"k": {"x", "y"}}, datetime.date(2026, 1, 2),
                      pathlib.Path("a"), fractions.Fraction(1, 3), random.Random(5), Point, range(5), {1: work}):
            print(of_value(value))
        print(of_function(work), of_function(Point), of_function(lambda x: work(x)))
        """))
    found = set()
    for seed in range(5):
        run = subprocess.run([sys.executable, str(script)], env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
                             capture_output=True, text=True, check=True)
        found.add(run.stdout)
        assert run.stdout.count("\n") == 12
    assert len(found) == 1
    tried("processes that came to the same digests", 5)


def test_a_function_inside_another_is_the_same() -> None:
    places: dict[str, Any] = {}
    exec("def work(x):\n    return 1 / x\n\ndef make():\n    def work(x):\n        return 1 / x\n    return work",
         places)
    assert of_function(places["work"]) == of_function(places["make"]())


IMPORTS = {
    "inside": "def work(x):\n    import own_helper\n    return own_helper.double(x)",
    "by name": "def work(x):\n    from own_helper import double\n    return double(x)",
    "of a package": "def work(x):\n    from own_package import part\n    return part.double(x)",
    "with dots": "import own_package.part\ndef work(x):\n    return own_package.part.double(x)",
    "in an inner function": "def work(x):\n    def inner():\n        import own_package.part as p\n"
                            "        return p.double(x)\n    return inner()"}


@pytest.mark.parametrize("how", IMPORTS)
def test_modules_that_a_function_imports(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without ``__init__.py``, too.  Nothing is loaded but modules of one's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_package").mkdir()

    def found(factor: int, comment: str = "") -> str:
        for file in (tmp_path / "own_helper.py", tmp_path / "own_package" / "part.py"):
            file.write_text(f"def double(x):\n    return {factor} * x  # {comment}\ndef unused():\n    {factor}\n")
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        places: dict[str, Any] = {}
        exec(IMPORTS[how], places)
        return of_function(places["work"])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert found(2) == found(2, "a comment") != found(3)


def test_what_else_a_function_imports_is_left_alone() -> None:
    places: dict[str, Any] = {}
    exec("def work():\n    import no_such_module, xml.dom.minidom, sys\n    from . import nothing", places)
    before = set(sys.modules)
    assert of_function(places["work"]) == of_function(places["work"])
    assert set(sys.modules) - before <= {"dill"}

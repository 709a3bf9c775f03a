"""Limits: what may be given, who may try again, how long to wait."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.errors import InvalidArgument
from runforrest.model import outcomes
from runforrest.model.limits import BACKOFF, CRASH_LIMIT, MAX_BACKOFF, Limits

INF, NAN = float("inf"), float("nan")
WRONG = [
    *[(name, value) for name in ("timeout", "grace", "memory", "backoff")
      for value in (-1, INF, -INF, NAN, "3", True, [1], 1j)],
    ("timeout", 0), ("memory", 0),
    *[(name, value) for name in ("retries", "crash_limit") for value in (-1, 1.5, "3", True, INF)],
    ("crash_limit", 0),
    ("retries", {"raised": -1}), ("retries", {"raised": None}), ("retries", {"raised": True}),
    ("retries", {"crashed": 1}), ("retries", {"lost": 1}), ("retries", {"Raised": 1}), ("retries", [1])]


@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_wrong_limits_name_the_argument_and_say_what_is_right(argument: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Limits(**{argument: value})  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert caught.value.__dict__["argument"].startswith(argument)
    text = str(caught.value)
    assert text.startswith(argument) and "\n" not in text
    assert "must be" in text or "can be given" in text
    assert pickle.loads(pickle.dumps(caught.value)).argument == caught.value.__dict__["argument"]


@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_wrong_limits_in_a_file_count_as_not_set(argument: str, value: object) -> None:
    limits = Limits.from_json({argument: value, "grace" if argument != "grace" else "timeout": 2.5, "unknown": 1})
    assert getattr(limits, argument) is None
    assert (limits.timeout if argument == "grace" else limits.grace) == 2.5


@pytest.mark.parametrize("found", [None, [], "x", 3])
def test_no_limits_in_a_file(found: object) -> None:
    assert Limits.from_json(found).to_json() == {}


seconds = st.none() | st.floats(0.001, 1e6)
counts = st.none() | st.integers(0, 20)
some_limits = st.builds(Limits, seconds, seconds, st.none() | st.integers(1, 2**40),
                        counts | st.dictionaries(st.sampled_from(outcomes.RETRIED), st.integers(0, 9)),
                        st.none() | st.integers(1, 20), seconds)


@given(some_limits)
def test_limits_survive_a_file(limits: Limits) -> None:
    assert Limits.from_json(json.loads(json.dumps(limits.to_json()))).to_json() == limits.to_json()


@given(some_limits, some_limits)
def test_own_limits_come_first(mine: Limits, runners: Limits) -> None:
    both = mine.or_else(runners).to_json()
    assert both == {**runners.to_json(), **mine.to_json()}


def test_zero_is_a_limit_of_its_own() -> None:
    both = Limits(retries=0, grace=0).or_else(Limits(retries=5, grace=9))
    assert both.retries == 0 and both.grace == 0


@pytest.mark.parametrize(("limits", "outcome", "counts", "again"), [
    # without retries, what raised is not tried again
    (Limits(), outcomes.RAISED, {"raised": 1}, False),
    (Limits(retries=0), outcomes.RAISED, {"raised": 1}, False),
    (Limits(retries=1), outcomes.RAISED, {"raised": 1}, True),
    (Limits(retries=1), outcomes.RAISED, {"raised": 2}, False),
    (Limits(retries=2), outcomes.TIMED_OUT, {"raised": 1, "timed_out": 1}, True),
    (Limits(retries=1), outcomes.TIMED_OUT, {"raised": 1, "timed_out": 1}, False),
    # a number by outcome counts only its own
    (Limits(retries={"timed_out": 1}), outcomes.TIMED_OUT, {"timed_out": 1, "raised": 7}, True),
    (Limits(retries={"timed_out": 1}), outcomes.TIMED_OUT, {"timed_out": 2}, False),
    (Limits(retries={"timed_out": 1}), outcomes.RAISED, {"raised": 1}, False),
    # crashes have a budget of their own, without being asked for
    (Limits(), outcomes.CRASHED, {"crashed": CRASH_LIMIT - 1}, True),
    (Limits(), outcomes.CRASHED, {"crashed": CRASH_LIMIT}, False),
    (Limits(), outcomes.LOST, {"crashed": 1, "lost": 1, "out_of_memory": 1}, False),
    (Limits(), outcomes.OUT_OF_MEMORY, {"out_of_memory": 1, "raised": 9}, True),
    (Limits(crash_limit=1), outcomes.CRASHED, {"crashed": 1}, False),
    (Limits(crash_limit=9), outcomes.LOST, {"lost": 8}, True),
    (Limits(crash_limit=2, retries=9), outcomes.CRASHED, {"crashed": 2}, False),
    (Limits(crash_limit=1, retries=1), outcomes.RAISED, {"crashed": 5, "raised": 1}, True),
    # these are never tried again
    (Limits(retries=9, crash_limit=9), outcomes.RETURNED, {"returned": 1}, False),
    (Limits(retries=9, crash_limit=9), outcomes.CANCELLED, {"cancelled": 1}, False),
    (Limits(retries=9, crash_limit=9), outcomes.UNLOADABLE, {"unloadable": 1}, False),
    (Limits(retries=9, crash_limit=9), "something new", {"something new": 1}, False)])
def test_who_may_try_again(limits: Limits, outcome: str, counts: dict[str, int], again: bool) -> None:
    assert limits.allows_another(outcome, counts) is again


@given(some_limits, st.sampled_from(outcomes.OUTCOMES))
def test_every_budget_ends(limits: Limits, outcome: str) -> None:
    assert not limits.allows_another(outcome, {outcome: 1000})


@given(some_limits, st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_delay_is_bounded_and_spread(limits: Limits, failures: int, jitter: float) -> None:
    low, this, high = (limits.delay(failures, j) for j in (0.0, jitter, 0.999999))
    assert 0 <= low <= this and (this <= high or jitter > 0.999999)
    assert high <= 1.5 * MAX_BACKOFF
    assert low == pytest.approx(high / 3, rel=0.01)


def test_delay_doubles() -> None:
    assert [Limits().delay(n, 0.5) for n in (1, 2, 3)] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert Limits(backoff=0).delay(5, 0.9) == 0
    assert Limits(backoff=10).delay(100, 0.5) == MAX_BACKOFF

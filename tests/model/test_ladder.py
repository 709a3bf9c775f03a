"""The way down: TERM at the deadline, KILL a grace later, again and again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runforrest.model.ladder import KILL, REKILL, TERM, Ladder


def test_term_at_the_deadline_kill_after_the_grace_then_again() -> None:
    ladder = Ladder(deadline=10, grace=5)
    assert ladder.due(0) == "" and ladder.wait(0) == 10
    assert ladder.due(9.999) == "" and not ladder.reason
    assert ladder.due(10) == TERM and ladder.reason == "timed_out"
    assert ladder.due(10) == "" and ladder.wait(10) == 5
    assert ladder.due(14.9) == ""
    assert ladder.due(15) == KILL and ladder.wait(15) == REKILL
    assert ladder.due(15.5) == ""
    assert ladder.due(15 + REKILL) == KILL
    assert ladder.due(15 + 2 * REKILL) == KILL


def test_no_deadline_no_end() -> None:
    ladder = Ladder(None, 5)
    assert ladder.due(1e12) == "" and ladder.wait(1e12) is None


def test_late_to_look_grace_counts_from_then() -> None:
    ladder = Ladder(10, 5)
    assert ladder.due(100) == TERM
    assert ladder.due(104) == "" and ladder.due(105) == KILL


def test_without_grace_kill_at_once() -> None:
    assert Ladder(10, 0).due(10) == KILL
    ladder = Ladder(None, 5)
    ladder.end("out_of_memory", 3, 0.0)
    assert ladder.wait(3) == 0 and ladder.due(3) == KILL


def test_the_shorter_grace_counts_and_the_first_reason() -> None:
    ladder = Ladder(None, 60)
    ladder.end("released", 0, 30)
    assert ladder.due(0) == TERM
    ladder.end("cancelled", 1, 2)
    assert ladder.reason == "released"
    assert ladder.due(2.9) == "" and ladder.due(3) == KILL
    ladder = Ladder(None, 60)
    ladder.end("released", 0, 2)
    ladder.end("released", 1, 30)
    assert ladder.due(0) == TERM and ladder.due(2) == KILL


def test_a_deadline_after_the_end_changes_nothing() -> None:
    ladder = Ladder(10, 60)
    ladder.end("released", 5)
    assert ladder.due(5) == TERM and ladder.due(10) == "" and ladder.reason == "released"
    assert ladder.due(65) == KILL


def test_to_end_again_after_the_kill_kills_again() -> None:
    ladder = Ladder(1, 0)
    assert ladder.due(1) == KILL and ladder.due(1.1) == ""
    ladder.end("released", 1.2, 0)
    assert ladder.due(1.2) == KILL


@given(st.none() | st.floats(0, 100), st.floats(0, 100),
       st.lists(st.tuples(st.floats(0, 50), st.sampled_from(["look", "end"]), st.none() | st.floats(0, 50))))
def test_who_waits_as_told_misses_nothing(deadline: float | None, grace: float,
                                          steps: list[tuple[float, str, float | None]]) -> None:
    """At most one TERM, never after a KILL; and once it is due, it is due."""
    ladder, now, seen = Ladder(deadline, grace), 0.0, []
    for pause, what, given_grace in steps:
        wait = ladder.wait(now)
        now += pause if wait is None else min(pause, wait)
        if what == "end":
            ladder.end("released", now, given_grace)
        seen.append(ladder.due(now))
        wait = ladder.wait(now)
        assert wait is None or wait >= 0
        assert not (wait == 0 and ladder.due(now) == "" and ladder.wait(now) == 0), "a loop that spins"
    seen = [s for s in seen if s]
    assert TERM not in seen[1:]
    if ladder.reason:
        assert ladder.due(now + 1000) == KILL

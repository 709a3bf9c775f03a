"""The runner's decisions, with plain values: no file, no process, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runforrest.model import events as ev
from runforrest.model import outcomes
from runforrest.model.brain import FAULT_LEAST, FAULT_MOST, IDLE_LEAST, IDLE_MOST, MOST_READS, Brain
from runforrest.model.limits import CRASH_LIMIT, Limits
from runforrest.model.names import Name
from runforrest.model.resources import Budget, Capacity, Grant, Needs

GRACE = 7.0
GUARD_KILLED = "the guard of its slot was killed, and the task with it"


def task(number: int) -> Name:
    return Name(f"task{number}", 1, f"a{number}")


def brain(slots: int = 1, wait: bool = False, jitter: float = 0.5) -> Brain:
    return Brain(slots, wait, GRACE, lambda: jitter)


def up(slots: int = 1, wait: bool = False) -> Brain:
    """A brain whose slots are ready and claiming."""
    new = brain(slots, wait)
    for slot in range(slots):
        assert new.handle(ev.SlotReady(slot), 0.0) == [ev.Claim(slot)]
    return new


def busy(slots: int = 1, wait: bool = False) -> Brain:
    """A brain whose slot n runs ``task(n)``."""
    new = up(slots, wait)
    for slot in range(slots):
        assert new.handle(ev.Claimed(slot, task(slot)), 0.0) == [ev.Start(slot, task(slot))]
    return new


def ended(slot: int = 0, outcome: str = outcomes.RETURNED, again: bool = False, failures: int = 0,
          **limits: Any) -> ev.Ended:
    return ev.Ended(slot, task(slot), outcome, again, failures, {"outcome": outcome, "limits": limits})


def published(*numbers: int) -> ev.Published:
    return ev.Published([task(number).id for number in numbers])


def without_words(actions: list[ev.Action]) -> list[ev.Action]:
    return [a for a in actions if not isinstance(a, ev.Say)]


def words(actions: list[ev.Action]) -> str:
    return " ".join(a.text for a in actions if isinstance(a, ev.Say))


# -- slots ---------------------------------------------------------------------------------


def test_slots_fill_as_they_come_up() -> None:
    new = brain(3)
    assert new.handle(ev.Tick(), 0.0) == []
    assert new.handle(ev.SlotReady(1), 0.0) == [ev.Claim(1)]
    assert new.handle(ev.Claimed(1, task(1)), 0.0) == [ev.Start(1, task(1))]
    assert new.handle(ev.SlotReady(0), 0.1) == [ev.Claim(0)]
    assert new.handle(ev.SlotReady(2), 0.1) == [ev.Claim(2)]
    assert new.handle(ev.SlotReady(1), 0.2) == [], "a slot that is busy is not asked to claim"
    assert new.wait(0.2) is None


def test_a_free_slot_publishes_and_claims() -> None:
    new = busy(2)
    event = ended(0)
    assert new.handle(event, 1.0) == [ev.Commit(task(0), "done", event.report), ev.Claim(0)]


@pytest.mark.parametrize("outcome", [o for o in outcomes.OUTCOMES if o != outcomes.RETURNED])
def test_what_may_not_try_again_fails(outcome: str) -> None:
    event = ended(0, outcome)
    assert busy().handle(event, 1.0) == [ev.Commit(task(0), "fail", event.report), ev.Claim(0)]


def test_old_reports_are_ignored() -> None:
    new = busy()
    for event in (ev.Ended(0, task(9), "returned", False), ev.Released(0, task(9)), ev.Vanished(0, task(9)),
                  ev.SlotFault(0, task(9), "io")):
        assert new.handle(event, 1.0) == []
    assert new.handle(ended(), 1.0)[0] == ev.Commit(task(0), "done", ended().report)
    new.handle(ev.Claimed(0, task(5)), 1.0)
    assert new.handle(ended(), 1.0) == [], "the same report twice"


# -- retries -------------------------------------------------------------------------------


def test_a_retry_waits_and_is_then_put_back() -> None:
    new = busy()
    event = ended(0, outcomes.RAISED, True, 1, backoff=4)
    assert new.handle(event, 10.0) == [ev.Claim(0)], "the slot takes something else meanwhile"
    assert new.wait(10.0) == 4.0
    assert new.handle(ev.NothingToClaim(0, False), 10.0) == [], "it stays, for the retry"
    assert new.handle(ev.Tick(), 13.9) == [ev.Claim(0)]
    assert new.handle(ev.NothingToClaim(0, False), 13.9) == []
    assert new.handle(ev.Tick(), 14.0) == [ev.Release(task(0), event.report), ev.Claim(0)]
    assert new.handle(ev.NothingToClaim(0, False), 14.1) == [ev.Exit("done")]


def test_back_off_doubles_with_the_failures() -> None:
    waits = []
    for failures in (1, 2, 3):
        new = busy()
        new.handle(ended(0, outcomes.RAISED, True, failures, backoff=4), 0.0)
        waits.append(new.wait(0.0))
    assert waits == [4.0, 8.0, 16.0]


def test_without_back_off_it_goes_back_at_once() -> None:
    event = ended(0, outcomes.CRASHED, True, 1, backoff=0)
    assert busy().handle(event, 1.0) == [ev.Release(task(0), event.report), ev.Claim(0)]


def test_crashes_and_raises_have_budgets_of_their_own() -> None:
    """The runner asks `Limits`; what it answers decides between todo/ and fail/."""
    for outcome, counts, where in [(outcomes.CRASHED, {"crashed": CRASH_LIMIT - 1, "raised": 9}, ev.Release),
                                   (outcomes.CRASHED, {"crashed": CRASH_LIMIT}, ev.Commit),
                                   (outcomes.RAISED, {"raised": 1, "crashed": 9}, ev.Commit)]:
        again = Limits(backoff=0).allows_another(outcome, counts)
        [move, _] = busy().handle(ended(0, outcome, again, 1, backoff=0), 1.0)
        assert isinstance(move, where)


def test_retries_are_put_back_in_the_order_in_which_they_are_due() -> None:
    new = busy(2)
    new.handle(ended(0, outcomes.RAISED, True, 3, backoff=1), 0.0)
    new.handle(ended(1, outcomes.RAISED, True, 1, backoff=1), 0.0)
    actions = without_words(new.handle(ev.Tick(), 100.0))
    assert [a.name for a in actions if isinstance(a, ev.Release)] == [task(1), task(0)]


# -- nothing to do -------------------------------------------------------------------------


def test_the_list_is_done() -> None:
    new = up()
    assert new.handle(ev.NothingToClaim(0, False), 0.0) == [ev.Exit("done")]
    for event in (ev.Tick(), ev.SlotReady(0), ev.Interrupt(), ev.Fenced("x")):
        assert new.handle(event, 1.0) == [], "it has left"


def test_not_done_while_a_task_runs_which_may_schedule_more() -> None:
    new = up(2)
    new.handle(ev.Claimed(0, task(0)), 0.0)
    assert new.handle(ev.NothingToClaim(1, False), 0.0) == []
    actions = new.handle(ended(0), 1.0)
    assert actions == [ev.Commit(task(0), "done", ended(0).report), ev.Claim(0), ev.Claim(1)]
    assert new.handle(ev.NothingToClaim(0, False), 1.0) == []
    assert new.handle(ev.NothingToClaim(1, False), 1.0) == []
    assert new.handle(published(0), 1.0) == [ev.Exit("done")]


def test_not_done_while_others_hold_tasks_that_may_come_back() -> None:
    new = up()
    assert new.handle(ev.NothingToClaim(0, True), 0.0) == []
    pause = new.wait(0.0)
    assert pause is not None and 0 < pause <= IDLE_MOST
    assert new.handle(ev.Tick(), pause / 2) == []
    assert new.handle(ev.Tick(), pause) == [ev.Claim(0)]
    assert new.handle(ev.NothingToClaim(0, False), pause) == [ev.Exit("done")]


def test_pauses_between_looks_grow_and_stay_bounded() -> None:
    new, now, pauses = up(wait=True), 0.0, []
    for _ in range(20):
        assert new.handle(ev.NothingToClaim(0, False), now) == []
        pause = new.wait(now)
        assert pause is not None
        pauses.append(round(pause, 6))
        now += pause
        assert new.handle(ev.Tick(), now) == [ev.Claim(0)]
    assert pauses[0] == IDLE_LEAST and pauses == sorted(pauses) and pauses[-1] == IDLE_MOST
    new.handle(ev.NothingToClaim(0, False), now)
    assert new.handle(ev.MoreWork(), now) == [ev.Claim(0)]
    new.handle(ev.NothingToClaim(0, False), now)
    assert new.wait(now) == pytest.approx(IDLE_LEAST)


def test_told_to_wait_it_stays() -> None:
    new = up(wait=True)
    assert new.handle(ev.NothingToClaim(0, False), 0.0) == []
    assert new.handle(ev.Interrupt(), 0.1)[-1] == ev.Exit("drained")


def test_told_that_there_will_be_no_more_it_leaves_when_all_is_done() -> None:
    new = up(wait=True)
    new.handle(ev.NothingToClaim(0, False), 0.0)
    assert new.handle(ev.NoMore(), 0.0) == [ev.Claim(0)], "what came just before"
    assert new.handle(ev.NothingToClaim(0, False), 0.1) == [ev.Exit("done")]


def test_not_done_before_a_slot_is_up() -> None:
    new = brain(2)
    assert new.handle(ev.Tick(), 0.0) == [] and new.handle(ev.Tick(), 99.0) == []


# -- the folder ----------------------------------------------------------------------------


def test_a_folder_in_trouble_pauses_and_goes_on_by_itself() -> None:
    new = up()
    actions = new.handle(ev.FolderFault("no space", 0), 0.0)
    assert "no space" in words(actions) and without_words(actions) == []
    pauses, now = [], 0.0
    for _ in range(10):
        pause = new.wait(now)
        assert pause is not None
        pauses.append(pause)
        assert new.handle(ev.Tick(), now + pause * 0.99) == [], "nothing is started meanwhile"
        now += pause
        assert new.handle(ev.Tick(), now) == [ev.Claim(0)]
        assert new.handle(ev.FolderFault("no space", 0), now) == [], "said once"
    assert pauses[0] == FAULT_LEAST and pauses == sorted(pauses) and pauses[-1] == FAULT_MOST
    now += FAULT_MOST
    assert new.handle(ev.Tick(), now) == [ev.Claim(0)]
    actions = new.handle(ev.Claimed(0, task(0)), now)
    assert without_words(actions) == [ev.Start(0, task(0))] and "well again" in words(actions)
    assert new.handle(ended(), now)[-1] == ev.Claim(0)


def test_a_folder_in_trouble_is_no_reason_to_leave() -> None:
    new = up(2)
    new.handle(ev.NothingToClaim(0, True), 0.0)
    assert without_words(new.handle(ev.FolderFault("io", 1), 0.0)) == []
    assert new.handle(ev.Interrupt(), 0.0)[-1] == ev.Exit("drained"), "a person is"


def test_more_work_does_not_shorten_the_pause_of_a_fault() -> None:
    new = up()
    new.handle(ev.FolderFault("io", 0), 0.0)
    assert new.handle(ev.MoreWork(), 0.1) == []


def test_a_fault_of_a_slot_puts_its_task_back_and_pauses() -> None:
    new = busy()
    actions = new.handle(ev.SlotFault(0, task(0), "io"), 0.0)
    assert without_words(actions) == [] and "io" in words(actions)
    assert new.handle(ev.Tick(), FAULT_LEAST) == [ev.Claim(0)], "the others do not wait for it"
    said = new.handle(ev.NothingToClaim(0, False), FAULT_LEAST)
    assert without_words(said) == [] and "well again" in words(said), "it stays for that"
    assert new.handle(ev.Tick(), 2 * FAULT_LEAST)[0] == ev.Release(task(0))


def test_a_file_that_can_never_be_read_waits_longer_each_time() -> None:
    new, now, pauses = busy(), 0.0, []
    for _ in range(7):
        new.handle(ev.SlotFault(0, task(0), "io"), now)
        began = now
        while ev.Release(task(0)) not in new.handle(ev.Tick(), now):
            now += FAULT_LEAST / 4
        pauses.append(now - began)
        new.handle(ev.NothingToClaim(0, True), now)
        new.slots[0].state = "claiming"
        new.handle(ev.Claimed(0, task(0)), now)
    assert pauses == sorted(pauses) and pauses[-1] == FAULT_MOST


def test_a_file_that_seems_damaged_each_time_is_given_up() -> None:
    """For about half a minute it is tried again; that the folder is well is for who gives it up to find out."""
    new, now = busy(), 0.0
    fault = ev.SlotFault(0, task(0), "io", damaged=True)
    for _ in range(MOST_READS - 1):
        new.handle(fault, now)
        while ev.Release(task(0)) not in new.handle(ev.Tick(), now):
            now += FAULT_LEAST
        new.slots[0].state = "claiming"
        new.handle(ev.Claimed(0, task(0)), now)
    assert 25 < now < 60
    [action] = without_words(new.handle(fault, now))
    assert action == ev.GiveUp(0, task(0), f"io ({MOST_READS} times)")
    kept = new.handle(ev.SlotFault(0, task(0), "nothing can be written"), now)
    assert without_words(kept) == [] and new.held, "then it was the folder"
    new.slots[0].state = "claiming"
    new.handle(ev.Claimed(0, task(0)), now)
    assert isinstance(without_words(new.handle(fault, now))[0], ev.GiveUp)
    failed = ended(0, outcomes.UNLOADABLE)
    assert ev.Commit(task(0), "fail", failed.report) in new.handle(failed, now)


@pytest.mark.parametrize("move", [ev.Commit(task(0), "done", {}), ev.Release(task(0), {}), ev.Release(task(0))])
def test_an_unmoved_task_is_moved_later(move: Any) -> None:
    new = up()
    actions = new.handle(ev.Unmoved(move, "io"), 0.0)
    assert "io" in words(actions) and without_words(actions) == []
    assert without_words(new.handle(ev.NothingToClaim(0, False), 0.0)) == [], "it stays for that"
    pause = FAULT_LEAST
    assert move in new.handle(ev.Tick(), pause)
    new.handle(ev.Unmoved(move, "io"), pause)
    assert move not in new.handle(ev.Tick(), pause + 0.01)
    assert move in new.handle(ev.Tick(), pause + FAULT_MOST)


def test_a_draining_runner_tries_again_to_move_a_result() -> None:
    new = busy(2)
    new.handle(ev.Interrupt(), 0.0)
    commit = ev.Commit(task(0), "done", ended(0).report)
    assert new.handle(ended(0), 1.0) == [commit]
    assert without_words(new.handle(ev.Unmoved(commit, "io"), 1.0)) == []
    assert without_words(new.handle(ended(1), 1.2)) == [ev.Commit(task(1), "done", ended(1).report)], "but no Exit"
    assert new.handle(published(1), 1.3) == []
    assert new.handle(ev.Tick(), 1.0 + FAULT_MOST) == [commit], "nothing else keeps it here"
    assert without_words(new.handle(published(0), 2.0 + FAULT_MOST)) == [ev.Exit("drained")]


def test_who_insists_does_not_wait_for_it() -> None:
    new = busy(2)
    new.handle(ev.Interrupt(), 0.0)
    commit = ev.Commit(task(0), "done", ended(0).report)
    new.handle(ended(0), 1.0)
    new.handle(ev.Unmoved(commit, "io"), 1.0)
    assert without_words(new.handle(ev.Interrupt(), 1.1)) == [ev.Stop(1, 0.0), commit]


def test_who_insists_leaves_without_it() -> None:
    new = busy(2)
    new.handle(ev.Terminate(), 0.0)
    said = new.handle(ev.Unmoved(ev.Commit(task(0), "done", {}), "io"), 1.0)
    assert without_words(said) == [] and "next runner" in words(said)


def test_a_retry_that_waits_goes_back_when_the_runner_drains() -> None:
    new = busy()
    event = ended(0, outcomes.RAISED, True, 1, backoff=100)
    new.handle(event, 0.0)
    assert ev.Release(task(0), event.report) in new.handle(ev.Interrupt(), 1.0)


def test_a_full_disk_starts_nothing_and_is_said_once() -> None:
    new = busy(2)
    assert "no space left" in words(new.handle(ev.Room(False, "/list"), 1.0))
    assert new.handle(ended(0), 2.0) == [ev.Commit(task(0), "done", ended(0).report)], "no claim, no 'well again'"
    assert new.handle(ev.Room(False, "/list"), 3.0) == []
    assert new.handle(ev.Room(True, "/list"), 4.0) == [], "whether the result can be published shows now"
    actions = new.handle(published(0), 4.1)
    assert "well again" in words(actions) and without_words(actions) == [ev.Claim(0)]


@pytest.mark.parametrize("draining", [False, True])
def test_a_folder_in_which_nothing_can_be_published_is_not_well(draining: bool) -> None:
    new = busy(3)
    if draining:
        new.handle(ev.Interrupt(), 0.0)
    commit = ev.Commit(task(0), "done", ended(0).report)
    new.handle(ended(0), 1.0)
    assert "denied" in words(new.handle(ev.Unmoved(commit, "denied"), 1.0))
    for slot in (1, 2):                     # their records can be written
        actions = new.handle(ended(slot), 1.1)
        assert actions == [ev.Commit(task(slot), "done", ended(slot).report)], "neither a claim nor 'well again'"
    assert new.handle(published(2), 1.2) == [], "two others are not yet"
    if not draining:                        # a look that was under way
        assert new.handle(ev.NothingToClaim(0, False), 1.3) == []
    assert new.handle(ev.Tick(), 2.0) == [commit], "tried again, and nothing else"
    assert new.handle(published(0), 2.1) == []
    actions = new.handle(published(1), 2.2)
    assert words(actions) == "the folder is well again"
    assert without_words(actions) == [ev.Exit("drained")] if draining else [ev.Claim(slot) for slot in range(3)]


def test_a_folder_in_which_heartbeats_fail_is_not_well() -> None:
    new = busy(2)
    for now in (1.0, 1.5, 2.5):
        said = new.handle(ev.FolderFault("denied at a heartbeat", source="heartbeat"), now)
        assert ("heartbeat" in words(said)) == (now == 1.0), "said once"
    assert new.handle(ended(0), 3.0) == [ev.Commit(task(0), "done", ended(0).report)]
    assert new.handle(published(0), 3.1) == [], "neither a claim nor 'well again'"
    assert new.handle(ev.Tick(), 1000.0) == []
    assert new.handle(ev.Recovered("others"), 1000.0) == []
    actions = new.handle(ev.Recovered("heartbeat"), 1001.0)
    assert words(actions) == "the folder is well again" and without_words(actions) == [ev.Claim(0)]


def test_what_can_be_written_does_not_tell_that_claims_work() -> None:
    new = busy(2)
    new.handle(ended(0), 1.0)
    assert "denied" in words(new.handle(ev.FolderFault("denied: todo", 0), 1.0))
    new.handle(published(0), 1.1)
    assert words(new.handle(ended(1), 1.2)) == words(new.handle(published(1), 1.3)) == ""
    new.handle(ev.Tick(), 2.0)
    assert words(new.handle(ev.Claimed(0, task(5)), 2.0)) == "the folder is well again"


def test_hold() -> None:
    new = busy(2)
    assert new.handle(ev.Hold(True), 0.0) == []
    assert new.handle(ended(0), 1.0) == [ev.Commit(task(0), "done", ended(0).report)]
    assert new.wait(1.0) is None, "nothing to wake up for"
    assert new.handle(ev.Tick(), 9.0) == []
    assert new.handle(ev.Hold(False), 9.0) == [ev.Claim(0)]


def test_a_hold_does_not_stop_retries_or_leaving() -> None:
    new = busy()
    new.handle(ev.Hold(True), 0.0)
    event = ended(0, outcomes.RAISED, True, 1, backoff=4)
    assert new.handle(event, 0.0) == []
    assert new.handle(ev.Tick(), 4.0) == [ev.Release(task(0), event.report)]
    assert new.handle(ev.Terminate(), 4.0)[-1] == ev.Exit("terminated")


# -- leaving -------------------------------------------------------------------------------


def test_the_first_interrupt_finishes_what_runs() -> None:
    new = busy(2)
    actions = new.handle(ev.Interrupt(), 0.0)
    assert without_words(actions) == [] and "2 running tasks" in words(actions) and "once more" in words(actions)
    assert new.handle(ended(0), 1.0) == [ev.Commit(task(0), "done", ended(0).report)], "nothing new is started"
    assert new.handle(published(0), 1.0) == []
    assert new.handle(ended(1), 2.0) == [ev.Commit(task(1), "done", ended(1).report)], "until that is published"
    assert new.handle(published(1), 2.1) == [ev.Exit("drained")]


def test_the_second_interrupt_puts_them_back() -> None:
    new = busy(2)
    new.handle(ev.Interrupt(), 0.0)
    actions = new.handle(ev.Interrupt(), 0.1)
    assert without_words(actions) == [ev.Stop(0, 0.0), ev.Stop(1, 0.0)]
    assert new.handle(ev.Released(0, task(0)), 0.2) == [ev.Release(task(0))]
    assert new.handle(ended(1), 0.2) == [ev.Commit(task(1), "done", ended(1).report)], (
        "what ended in time is published")
    assert new.handle(published(1), 0.3) == [ev.Exit("released")]


def test_a_third_interrupt_asks_again() -> None:
    new = busy()
    new.handle(ev.Interrupt(), 0.0)
    new.handle(ev.Interrupt(), 0.1)
    assert ev.Stop(0, 0.0) in new.handle(ev.Interrupt(), 0.2)


def test_terminate_gives_the_grace() -> None:
    new = busy(2)
    assert without_words(new.handle(ev.Terminate(), 0.0)) == [ev.Stop(0, GRACE), ev.Stop(1, GRACE)]
    assert ev.Stop(0, 0.0) in new.handle(ev.Interrupt(), 0.1), "a person is in a hurry"
    assert new.handle(ev.Released(0, task(0)), 1.0) == [ev.Release(task(0))]
    assert new.handle(ev.GuardDied(1), 1.0)[0] == ev.Release(task(1)), "ended is ended"


def test_nothing_is_claimed_while_leaving() -> None:
    for leave in (ev.Interrupt(), ev.Terminate()):
        new = up(2)
        new.handle(ev.Claimed(0, task(0)), 0.0)
        assert not any(isinstance(a, ev.Claim) for a in new.handle(leave, 0.0))
        assert new.handle(ev.Claimed(1, task(1)), 0.0) == [ev.Release(task(1))], "a claim that was under way"
        assert new.wait(0.0) is None


def test_leaving_puts_back_what_waits_for_its_retry() -> None:
    for leave in (ev.Interrupt(), ev.Terminate()):
        new = busy()
        event = ended(0, outcomes.RAISED, True, 1, backoff=100)
        new.handle(event, 0.0)
        new.handle(ev.NothingToClaim(0, False), 0.0)
        actions = without_words(new.handle(leave, 0.1))
        assert actions[0] == ev.Release(task(0), event.report) and isinstance(actions[-1], ev.Exit)


def test_a_retry_while_leaving_does_not_wait() -> None:
    new = busy()
    new.handle(ev.Interrupt(), 0.0)
    event = ended(0, outcomes.RAISED, True, 1, backoff=100)
    assert new.handle(event, 1.0) == [ev.Release(task(0), event.report), ev.Exit("drained")]


# -- fenced --------------------------------------------------------------------------------


def test_a_fenced_runner_publishes_nothing() -> None:
    new = busy(4)
    new.handle(ended(3, outcomes.RAISED, True, 1, backoff=100), 0.0)
    new.handle(ev.NothingToClaim(3, True), 0.0)
    actions = new.handle(ev.Fenced("declared lost"), 0.1)
    assert without_words(actions) == [ev.Stop(0, 0.0), ev.Stop(1, 0.0), ev.Stop(2, 0.0)]
    assert "declared lost" in words(actions)
    assert without_words(new.handle(ended(0), 0.2)) == []
    assert without_words(new.handle(ev.Released(1, task(1)), 0.2)) == []
    assert without_words(new.handle(ev.GuardDied(2), 0.2)) == [ev.Exit("fenced")]


@pytest.mark.parametrize("event", [
    ended(0), ended(0, outcomes.RAISED, True, 1), ended(0, outcomes.CRASHED), ev.Released(0, task(0)),
    ev.Vanished(0, task(0)), ev.SlotFault(0, task(0), "io"), ev.GuardDied(0)])
def test_whatever_ends_the_last_task_of_a_fenced_runner(event: ev.Event) -> None:
    new = busy()
    new.handle(ev.Fenced("x"), 0.0)
    assert without_words(new.handle(event, 1.0)) == [ev.Exit("fenced")]


def test_a_fenced_runner_stays_fenced() -> None:
    new = busy()
    new.handle(ev.Fenced("x"), 0.0)
    for event in (ev.Interrupt(), ev.Terminate(), ev.Fenced("y")):
        assert without_words(new.handle(event, 0.1)) == [ev.Stop(0, 0.0 if event != ev.Terminate() else GRACE)]
    assert without_words(new.handle(ended(0), 1.0)) == [ev.Exit("fenced")]


def test_a_claim_under_way_when_fenced_is_the_new_owners() -> None:
    new = up()
    new.handle(ev.Fenced("x"), 0.0)
    assert without_words(new.handle(ev.Claimed(0, task(0)), 0.0)) == [ev.Exit("fenced")]


# -- guards --------------------------------------------------------------------------------


def test_a_guard_that_died_with_its_task() -> None:
    new = busy()
    assert new.handle(ev.GuardDied(0), 0.0) == [ev.Record(0, task(0), outcomes.LOST, GUARD_KILLED)]
    event = ended(0, outcomes.LOST, True, 1, backoff=0)
    assert ev.Release(task(0), event.report) in new.handle(event, 0.1)


def test_a_guard_that_died_and_the_task_had_ended() -> None:
    new = busy()
    new.handle(ev.GuardDied(0), 0.0)
    assert ev.Commit(task(0), "done", ended().report) in new.handle(ended(), 0.1)


def test_a_guard_that_died_idle() -> None:
    new = up(wait=True)
    new.handle(ev.NothingToClaim(0, False), 0.0)
    assert new.handle(ev.GuardDied(0), 0.0) == []
    assert new.handle(ev.Tick(), 99.0) == [], "no claim before the new one is up"
    assert new.handle(ev.SlotReady(0), 100.0) == [ev.Claim(0)]


def test_a_task_that_was_taken_away() -> None:
    new = busy()
    actions = new.handle(ev.Vanished(0, task(0)), 0.0)
    assert without_words(actions) == [ev.Claim(0)] and "not published" in words(actions)


# -- everything at once --------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 3), st.booleans())
def test_any_history(data: st.DataObject, slots: int, wait: bool) -> None:
    """A world that answers as it likes: each claimed task is moved exactly once by its runner or left to its
    successors, no slot has two tasks, and told to leave, the runner leaves."""
    new, now, number = brain(slots, wait), 0.0, 0
    claiming: set[int] = set()
    running: dict[int, Name] = {}
    starting = set(range(slots))
    owned: set[Name] = set()
    held: set[Name] = set()
    fenced = left = leaving = False
    stopped: set[int] = set()
    answers: list[ev.Event] = []
    unmoved: list[ev.Event] = []

    def perform(actions: list[ev.Action]) -> None:
        """As the loop does: what could not be moved is told when all actions of an event are performed."""
        act(actions)
        while unmoved:
            act(new.handle(unmoved.pop(0), now))

    def act(actions: list[ev.Action]) -> None:
        nonlocal left
        for action in actions:
            assert not left, "an action after Exit"
            if isinstance(action, ev.Claim):
                assert action.slot not in claiming and action.slot not in running and not leaving and not fenced
                claiming.add(action.slot)
            elif isinstance(action, ev.Start):
                assert action.slot not in running
                running[action.slot] = action.name
            elif isinstance(action, (ev.Commit, ev.Release)):
                assert not fenced and action.name in owned
                if data.draw(st.integers(0, 9)) == 0:
                    unmoved.append(ev.Unmoved(action, "io"))
                    held.add(action.name)
                else:
                    owned.remove(action.name)
                    held.discard(action.name)
                    if isinstance(action, ev.Commit):
                        overtaken = data.draw(st.integers(0, 9)) == 0
                        answers.append(ev.Overtaken(action.name) if overtaken else ev.Published([action.name.id]))
            elif isinstance(action, ev.Stop):
                assert action.slot in running
                stopped.add(action.slot)
            elif isinstance(action, ev.Record):
                assert running[action.slot] == action.name
            elif isinstance(action, ev.Exit):
                assert not running and not claiming
                left = True

    def step(choices: list[str]) -> None:
        nonlocal now, number, fenced, leaving
        while answers and (leaving or data.draw(st.booleans())):
            perform(new.handle(answers.pop(), now))
            if left:
                return
        kind = data.draw(st.sampled_from(choices))
        if kind == "tick":
            pause = new.wait(now)
            now += 1.0 if pause is None else pause
            perform(new.handle(ev.Tick(), now))
        elif kind == "ready" and starting:
            slot = starting.pop()
            perform(new.handle(ev.SlotReady(slot), now))
        elif kind in ("claimed", "nothing", "fault") and claiming:
            slot = claiming.pop()
            if kind == "claimed":
                number += 1
                owned.add(task(number))
                perform(new.handle(ev.Claimed(slot, task(number)), now))
            elif kind == "nothing":
                perform(new.handle(ev.NothingToClaim(slot, data.draw(st.booleans())), now))
            else:
                perform(new.handle(ev.FolderFault("io", slot), now))
        elif kind in ("ended", "failed", "vanished", "slotfault", "released", "loss") and running:
            slot = data.draw(st.sampled_from(sorted(running)))
            if kind == "released" and slot not in stopped:
                return
            if kind == "loss":
                starting.add(slot)
                actions = new.handle(ev.GuardDied(slot), now)
                stays = any(isinstance(a, ev.Record) for a in actions)
                perform([a for a in actions if not stays or not isinstance(a, ev.Exit)])
                if not stays:
                    running.pop(slot)
                    stopped.discard(slot)
                    return
            name = running.pop(slot)
            stopped.discard(slot)
            event: ev.Event
            if kind == "vanished":
                owned.discard(name)
                event = ev.Vanished(slot, name)
            elif kind == "slotfault":
                event = ev.SlotFault(slot, name, "io")
            elif kind == "released":
                event = ev.Released(slot, name)
            else:
                again = kind != "ended" and data.draw(st.booleans())
                outcome = outcomes.RETURNED if kind == "ended" else outcomes.LOST if kind == "loss" else "raised"
                limits = {"backoff": data.draw(st.sampled_from([0, 5]))}
                event = ev.Ended(slot, name, outcome, again, 1, {"limits": limits})
            perform(new.handle(event, now))
        elif kind == "fence":
            fenced = leaving = True
            perform(new.handle(ev.Fenced("x"), now))
        elif kind in ("interrupt", "terminate"):
            leaving = True
            perform(new.handle(ev.Interrupt() if kind == "interrupt" else ev.Terminate(), now))

    common = ["tick", "ready", "claimed", "claimed", "claimed", "nothing", "fault", "ended", "ended", "failed",
              "vanished", "slotfault", "released", "loss"]
    for _ in range(data.draw(st.integers(0, 60))):
        if left:
            break
        step(common)
    if not left:
        step(["fence", "interrupt", "terminate"])
    for kind in ["claimed", "ended", "ended", "tick"] * 9:
        if left:
            break
        step([kind])
    while answers and not left:
        perform(new.handle(answers.pop(), now))
    assert left, "told to leave, it does not"
    assert fenced or owned <= held, "a task was forgotten"


# -- what people ask -------------------------------------------------------------------------


def test_a_pause_lets_running_tasks_finish_and_starts_nothing() -> None:
    new = busy(2)
    assert "paused" in words(new.handle(ev.Asked(pause=True), 1.0))
    assert new.handle(ended(0), 2.0) == [ev.Commit(task(0), "done", ended(0).report)], "and claims nothing"
    assert new.handle(ended(1), 2.0) == [ev.Commit(task(1), "done", ended(1).report)]
    assert new.wait(3.0) is None, "it neither looks nor leaves"
    assert new.handle(ev.Asked(pause=True), 3.0) == [], "said once"
    actions = new.handle(ev.Asked(), 4.0)
    assert "resumed" in words(actions) and without_words(actions) == [ev.Claim(0), ev.Claim(1)]


def test_stop_finishes_what_runs_and_stop_now_puts_it_back() -> None:
    new = busy()
    assert without_words(new.handle(ev.Asked(stop=True), 1.0)) == []
    assert new.handle(ended(), 2.0)[0] == ev.Commit(task(0), "done", ended().report)
    assert new.reason == "stopped"
    new = busy()
    assert without_words(new.handle(ev.Asked(stop_now=True), 1.0)) == [ev.Stop(0, GRACE)]
    assert new.handle(ev.Released(0, task(0)), 2.0) == [ev.Release(task(0)), ev.Exit("stopped")]


def test_cancel_ends_the_running_task_once() -> None:
    new = busy(2)
    asked = ev.Asked(cancel=frozenset({task(1).id, "elsewhere"}))
    assert new.handle(asked, 1.0) == [ev.Cancel(1, task(1))]
    assert new.handle(asked, 2.0) == [], "the same request, seen again"
    event = ended(1, outcomes.CANCELLED)
    assert new.handle(event, 3.0) == [ev.Commit(task(1), "fail", event.report), ev.Claim(1)]


def test_a_cancelled_task_that_is_claimed_is_not_started() -> None:
    new = up(2)
    new.handle(ev.Asked(cancel=frozenset({task(0).id, task(1).id})), 0.0)
    assert new.handle(ev.Claimed(0, task(0), cancelled=True), 0.0) == [
        ev.Record(0, task(0), outcomes.CANCELLED, "cancelled before it was started")]
    assert new.handle(ev.Claimed(1, task(1)), 0.0) == [ev.Start(1, task(1))], "it has been taken back since"


def test_a_request_is_met_by_one_end() -> None:
    new = busy()
    new.handle(ev.Asked(cancel=frozenset({task(0).id})), 0.0)
    new.handle(ended(0, outcomes.CANCELLED), 1.0)
    new.handle(published(0), 1.0)
    assert not new.cancelled


def test_cancel_of_a_task_that_waits_for_its_next_attempt_puts_it_back_at_once() -> None:
    new = busy()
    event = ended(0, outcomes.RAISED, True, 1, backoff=100)
    new.handle(event, 1.0)
    actions = new.handle(ev.Asked(cancel=frozenset({task(0).id})), 2.0)
    assert actions == [ev.Release(task(0), event.report)] and not new.held


# -- walltime ------------------------------------------------------------------------------


def test_when_its_time_is_over_a_runner_puts_back_what_runs() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, until=100.0)
    new.handle(ev.SlotReady(0), 0.0)
    new.handle(ev.Claimed(0, task(0)), 0.0)
    assert new.wait(40.0) == 60.0
    assert new.handle(ev.Tick(), 99.9) == []
    actions = new.handle(ev.Tick(), 100.0)
    assert "time" in words(actions) and without_words(actions) == [ev.Stop(0, GRACE)]
    assert new.handle(ev.Tick(), 101.0) == [], "told once"
    assert new.handle(ev.Released(0, task(0)), 102.0) == [ev.Release(task(0)), ev.Exit("walltime")]


def test_a_list_of_which_only_long_tasks_are_left_is_left_to_others() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, until=100.0)
    new.handle(ev.SlotReady(0), 0.0)
    actions = new.handle(ev.NothingToClaim(0, False, too_long=3), 0.0)
    assert "3 tasks" in words(actions) and without_words(actions) == [ev.Exit("walltime")]


# -- results that can't be written ------------------------------------------------------------


def test_nothing_is_claimed_while_a_result_waits_to_be_written() -> None:
    new = busy(2)
    said = new.handle(ev.ResultWaits(0, "No space left on device"), 1.0)
    assert "No space left" in words(said)
    actions = new.handle(ended(1), 2.0)
    assert actions == [ev.Commit(task(1), "done", ended(1).report)], "neither a claim nor 'well again'"
    assert new.handle(ev.Tick(), 1000.0) == []
    actions = new.handle(ended(0), 1001.0)
    assert actions == [ev.Commit(task(0), "done", ended(0).report)]
    assert new.handle(published(0), 1001.1) == []
    actions = new.handle(published(1), 1001.2)
    assert "well again" in words(actions) and without_words(actions) == [ev.Claim(0), ev.Claim(1)]


# -- cut off -----------------------------------------------------------------------------------


def test_a_runner_that_was_cut_off_goes_on_if_nobody_has_taken_over() -> None:
    new = busy(2)
    assert "its tasks are ended" in words(new.handle(ev.CutOff("no answer for 9 s"), 1.0))
    assert new.handle(ev.CutOff("no answer for 9 s"), 2.0) == [], "said once"
    assert new.handle(ev.Released(0, task(0)), 2.0) == [ev.Release(task(0))], "put back, and nothing claimed"
    assert new.handle(ev.Released(1, task(1)), 2.0) == [ev.Release(task(1))], "nor does it leave"
    assert new.wait(3.0) is None
    actions = new.handle(ev.Reached(), 4.0)
    assert "going on" in words(actions) and without_words(actions) == [ev.Claim(0), ev.Claim(1)]


def test_a_runner_that_was_cut_off_and_given_up_leaves() -> None:
    new = busy()
    new.handle(ev.CutOff("no answer for 9 s"), 1.0)
    actions = new.handle(ev.Fenced("others have it"), 2.0)
    assert without_words(actions) == [ev.Stop(0, 0.0)]
    assert new.handle(ev.Released(0, task(0)), 3.0) == [ev.Exit("fenced")]
    assert new.handle(ev.Reached(), 4.0) == []


# -- resources and services ----------------------------------------------------------------------


def test_what_a_task_needs_is_taken_while_it_runs() -> None:
    new = Brain(3, False, GRACE, lambda: 0.5, budget=Budget(Capacity(2, (4, 5), ("GPU-a",))))
    for slot in range(3):
        new.handle(ev.SlotReady(slot), 0.0)
    assert new.handle(ev.Claimed(0, task(0), Needs(1, 1)), 0.0) == [ev.Start(0, task(0), Grant((), ("GPU-a",)))]
    assert new.handle(ev.Claimed(1, task(1)), 0.0) == [ev.Start(1, task(1))]
    assert not new.budget.fits(Needs())
    new.handle(ended(0), 1.0)
    assert new.budget.fits(Needs(1, 1)) and not new.budget.fits(Needs(2))
    new.handle(ev.GuardDied(1), 2.0)
    assert not new.budget.fits(Needs(2)), "until its record is written"
    new.handle(ended(1, outcomes.LOST), 2.0)
    assert new.budget.fits(Needs(2))


def test_it_rests_while_nothing_but_a_service_runs() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, services=1)
    new.handle(ev.SlotReady(1), 0.0)
    new.handle(ev.Claimed(1, task(1), Needs(0, service=True)), 0.0)
    new.handle(ev.SlotReady(0), 0.0)
    assert new.rests()
    new.handle(ev.Claimed(0, task(0)), 0.0)
    assert not new.rests()


def test_a_draining_runner_puts_a_service_back_and_finishes_its_work() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, services=1)
    assert new.handle(ev.SlotReady(0), 0.0) == [ev.Claim(0)]
    assert new.handle(ev.SlotReady(1), 0.0) == [ev.Claim(1, service=True)]
    new.handle(ev.Claimed(1, task(1), Needs(0, service=True)), 0.0)
    new.handle(ev.Claimed(0, task(0)), 0.0)
    actions = new.handle(ev.Asked(stop=True), 1.0)
    assert "1 running task " in words(actions) and without_words(actions) == [ev.Stop(1, GRACE)]
    assert new.handle(ev.Released(1, task(1)), 2.0) == [ev.Release(task(1))]
    new.handle(ended(0), 3.0)
    assert new.handle(published(0), 3.0) == [ev.Exit("stopped")]


def test_a_runner_looks_for_a_service_before_it_leaves_and_not_at_each_task() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, services=1)
    new.handle(ev.SlotReady(0), 0.0)
    new.handle(ev.SlotReady(1), 0.0)
    assert new.handle(ev.NoService(1), 0.0) == []
    new.handle(ev.Claimed(0, task(0)), 0.0)
    assert new.handle(ended(0), 0.1)[1:] == [ev.Claim(0)], "not for services, so soon"
    new.handle(published(0), 0.1)
    assert new.handle(ev.NothingToClaim(0, False), 0.1) == [ev.Claim(1, service=True)]
    assert new.handle(ev.NoService(1), 0.1) == [ev.Exit("done")]


def test_a_runner_without_work_hands_its_service_over_to_others_at_work() -> None:
    new = Brain(1, False, GRACE, lambda: 0.5, services=1)
    new.handle(ev.SlotReady(0), 0.0)
    new.handle(ev.SlotReady(1), 0.0)
    new.handle(ev.Claimed(1, task(1), Needs(0, service=True)), 0.0)
    assert new.handle(ev.NothingToClaim(0, False), 0.0) == [], "nobody else is at work"
    assert new.handle(ev.Tick(), 2.0) == [ev.Claim(0)]
    assert new.handle(ev.NothingToClaim(0, False, dry=True), 2.0) == [ev.Stop(1, GRACE)]
    assert new.handle(ev.Released(1, task(1)), 3.0) == [ev.Release(task(1)), ev.Exit("done")]


def test_a_runner_that_works_itself_keeps_its_service() -> None:
    new = Brain(2, False, GRACE, lambda: 0.5, services=1)
    for slot in range(3):
        new.handle(ev.SlotReady(slot), 0.0)
    new.handle(ev.Claimed(2, task(2), Needs(0, service=True)), 0.0)
    new.handle(ev.Claimed(0, task(0)), 0.0)
    assert new.handle(ev.NothingToClaim(1, False, dry=True), 0.0) == []


def test_a_runner_that_has_too_little_for_what_is_left_says_so() -> None:
    new = up()
    actions = new.handle(ev.NothingToClaim(0, False, unfit="x needs 3 GPUs, and this runner has none"), 0.0)
    assert "3 GPUs" in words(actions) and without_words(actions) == [ev.Exit("unfit")]


def test_what_waits_for_what_is_gone_is_no_reason_to_stay() -> None:
    new = up()
    assert new.handle(ev.NothingToClaim(0, True), 0.0) == [], "it may be let go yet"
    actions = new.handle(ev.NothingToClaim(0, False, stuck="1 task waits for x"), 10.0)
    assert words(actions) == "1 task waits for x" and without_words(actions) == [ev.Exit("stuck")]


@pytest.mark.parametrize("why", ["", "2 tasks to fail/"])
def test_a_task_that_was_not_run_is_announced(why: str) -> None:
    actions = up().handle(ev.Settled(task(0), "fail", why), 0.0)
    assert words(actions) == why and ev.Announce(task(0), "fail") in without_words(actions)


def test_a_runner_leaves_when_it_has_begun_as_many_tasks_as_it_should() -> None:
    new = Brain(2, False, GRACE, lambda: 0.5, most_tasks=1)
    for slot in range(2):
        new.handle(ev.SlotReady(slot), 0.0)
    assert without_words(new.handle(ev.Claimed(0, task(0)), 0.0)) == [ev.Start(0, task(0))]
    assert new.handle(ev.Claimed(1, task(1)), 0.0) == [ev.Release(task(1))]
    new.handle(ended(0), 1.0)
    assert new.handle(published(0), 1.0) == [ev.Exit("stopped")]

"""What a runner has and what tasks need of it, with plain values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.errors import InvalidArgument
from runforrest.model.resources import ORDINARY, Budget, Capacity, Grant, Needs, Share, check_tokens, shares

HOST = Capacity(4, (0, 1, 2, 3), ("0", "GPU-ab", "MIG-cd"), 1000, {"license": 2})


def test_an_ordinary_task_takes_one_core_and_nothing_else() -> None:
    budget = Budget(Capacity(2))
    assert budget.take(0, ORDINARY) == Grant() and not budget.take(1, ORDINARY)
    assert not budget.fits(ORDINARY)
    assert budget.give_back(0) is ORDINARY and budget.fits(ORDINARY)
    assert budget.give_back(0) is None


@pytest.mark.parametrize(("needs", "grant"), [
    (Needs(2), Grant((0, 1))), (Needs(0.5), Grant()), (Needs(0, service=True), Grant()),
    (Needs(gpus=2), Grant((), ("0", "GPU-ab"))), (Needs(0, 1), Grant((), ("0",)))])
def test_what_a_task_is_given(needs: Needs, grant: Grant) -> None:
    assert Budget(HOST).take(0, needs) == grant


def test_no_cpu_and_no_gpu_is_given_twice() -> None:
    budget = Budget(HOST)
    assert budget.take(0, Needs(2, 1)) == Grant((0, 1), ("0",))
    assert budget.take(1, Needs(2, 2)) == Grant((2, 3), ("GPU-ab", "MIG-cd"))
    budget.give_back(0)
    assert budget.take(2, Needs(2, 1)) == Grant((0, 1), ("0",))


@pytest.mark.parametrize(("needs", "why"), [
    (Needs(5), "5 cores"), (Needs(gpus=4), "4 GPUs"), (Needs(memory=1001), "1001 bytes"),
    (Needs(tokens={"license": 3}), "3 of the token license"), (Needs(tokens={"other": 1}), "has none"), (Needs(4), "")])
def test_what_can_never_run_here(needs: Needs, why: str) -> None:
    found = Budget(HOST).never(needs)
    assert (why in found) if why else not found


def test_tokens_and_memory_are_counted() -> None:
    budget = Budget(HOST)
    budget.take(0, Needs(0, memory=600, tokens={"license": 2}))
    assert not budget.fits(Needs(memory=401)) and budget.fits(Needs(memory=400))
    assert not budget.fits(Needs(tokens={"license": 1})) and budget.lacks_only_tokens(Needs(tokens={"license": 1}))
    assert not budget.lacks_only_tokens(Needs(memory=401, tokens={"license": 1}))
    budget.give_back(0)
    assert budget.fits(Needs(memory=1000, tokens={"license": 2}))


def test_tokens_of_the_whole_list_are_not_counted_here() -> None:
    budget = Budget(HOST, frozenset({"licence-server"}))
    assert not budget.never(Needs(tokens={"licence-server": 99})) and budget.fits(Needs(tokens={"licence-server": 99}))


needs_of = st.builds(Needs, st.sampled_from([0, 0.25, 0.5, 1, 1.5, 2, 4]), st.integers(0, 3), st.integers(0, 1000),
                     st.dictionaries(st.just("license"), st.integers(0, 2)))


@given(st.lists(st.tuples(st.integers(0, 7), needs_of | st.none())))
def test_the_budget_is_never_exceeded_and_all_comes_back(steps: list[tuple[int, Needs | None]]) -> None:
    budget, used = Budget(HOST), {}
    for slot, needs in steps:
        if needs is None or slot in used:
            assert (budget.give_back(slot) is None) == (used.pop(slot, None) is None)
        elif budget.fits(needs):
            assert not budget.never(needs)
            used[slot] = needs, budget.take(slot, needs)
        assert sum(n.cores for n, _ in used.values()) <= HOST.cores
        assert sum(n.memory for n, _ in used.values()) <= (HOST.memory or 0)
        assert sum(n.tokens.get("license", 0) for n, _ in used.values()) <= 2
        grants = [grant for _, grant in used.values()]
        for given_out in ([c for g in grants for c in g.cpus], [name for g in grants for name in g.gpus or ()]):
            assert len(given_out) == len(set(given_out))
    for slot in list(used):
        budget.give_back(slot)
    assert budget.take(0, Needs(4, 3, 1000, {"license": 2})) == Grant(HOST.cpus, HOST.gpus)


@given(needs_of)
def test_needs_survive_the_envelope(needs: Needs) -> None:
    assert Needs.from_json(needs.to_json(), needs.memory) == needs


@pytest.mark.parametrize("found", [None, [], "x", {"cores": "many"}, {"gpus": -1}, {"tokens": {"": 1}}, {"x": 1}])
def test_damaged_needs_count_as_not_said(found: Any) -> None:
    assert Needs.from_json(found) == ORDINARY


@pytest.mark.parametrize("wrong", [{"cores": -1}, {"cores": "2"}, {"cores": True}, {"cores": float("nan")},
                                   {"gpus": 0.5}, {"gpus": -1}, {"tokens": ["a"]}, {"tokens": {"a": 1.5}},
                                   {"tokens": {"a/b": 1}}, {"tokens": {".a": 1}}])
def test_needs_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Needs(**wrong)
    assert next(iter(wrong)) in str(caught.value) or "token" in str(caught.value)


def test_tokens_are_named_plainly() -> None:
    assert check_tokens({"a-b_c.1": 0}) == {"a-b_c.1": 0}


# -- what each slot keeps --------------------------------------------------------------------


def test_cpus_are_dealt_out() -> None:
    assert shares(2, (0, 1, 2, 3, 4), 2, {}) == [Share((0, 1)), Share((2, 3))]
    assert shares(2, (0, 1, 2), 2, {}) == [Share(), Share()], "too few: nobody is tied to any"
    assert shares(3, (0, 1), 0.5, {}) == [Share()] * 3


def test_values_are_dealt_out_and_decide_how_many_slots_there_are() -> None:
    assert shares(2, (), 0, {"X": "a, b"}) == [Share(env={"X": "a"}), Share(env={"X": "b"})]
    assert shares(3, (), 0, {"X": "a,b", "Y": "1,2,3,4,5"}) == [Share(env={"X": "a", "Y": "1,2"}),
                                                                Share(env={"X": "b", "Y": "3,4"})]

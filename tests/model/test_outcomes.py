"""Outcomes are a closed set; records read what other versions wrote."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runforrest.model import outcomes
from runforrest.model.records import Attempt, Envelope


def test_the_set_is_closed() -> None:
    constants = {v for k, v in vars(outcomes).items() if k.isupper() and isinstance(v, str)}
    assert constants == set(outcomes.OUTCOMES) and len(outcomes.OUTCOMES) == 10
    assert all(v == k.lower() for k, v in vars(outcomes).items() if k.isupper() and isinstance(v, str))


def test_the_two_budgets_do_not_overlap() -> None:
    assert not set(outcomes.RETRIED) & set(outcomes.CRASHES)
    assert set(outcomes.RETRIED) | set(outcomes.CRASHES) < set(outcomes.OUTCOMES)
    assert set(outcomes.OUTCOMES) - set(outcomes.RETRIED) - set(outcomes.CRASHES) == {
        outcomes.RETURNED, outcomes.CANCELLED, outcomes.UNLOADABLE, outcomes.REFUSED,
        outcomes.DEPENDENCY_FAILED}


@given(st.dictionaries(st.sampled_from(["outcome", "number", "host", "of a later version", "frame"]), st.text()))
def test_records_ignore_what_they_do_not_know(found: dict[str, object]) -> None:
    for kind in (Attempt, Envelope):
        record = kind.from_json(found)
        assert kind.from_json(record.to_json()) == record
        assert "frame" not in record.to_json()

"""DISBATCH_ variables, as disBatch has set them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runforrest.batch.environment import variables


def test_as_disbatch_sets_them() -> None:
    assert variables("Tasks_disBatch_261122045017_764", "Tasks", 5, 10, 19) == {
        "DISBATCH_JOBID": "Tasks_disBatch_261122045017_764", "DISBATCH_NAMETASKS": "Tasks",
        "DISBATCH_REPEAT_INDEX": "19", "DISBATCH_REPEAT_INDEX_ZP": "000019",
        "DISBATCH_STREAM_INDEX": "10", "DISBATCH_STREAM_INDEX_ZP": "000010",
        "DISBATCH_TASKID": "5", "DISBATCH_TASKID_ZP": "000005"}
    found = variables("j", "stdin", 1234567, 999999, -1)
    assert found["DISBATCH_TASKID_ZP"] == "1234567" and found["DISBATCH_STREAM_INDEX_ZP"] == "999999"
    assert found["DISBATCH_REPEAT_INDEX"] == "-1" and found["DISBATCH_REPEAT_INDEX_ZP"] == "-00001"


@given(st.integers(-1), st.integers(0))
def test_padded_numbers_are_the_same_numbers(repeat: int, task: int) -> None:
    found = variables("j", "n", task, 1, repeat)
    for name in ("DISBATCH_TASKID", "DISBATCH_REPEAT_INDEX"):
        assert int(found[name]) == int(found[f"{name}_ZP"]) and len(found[f"{name}_ZP"]) >= 6

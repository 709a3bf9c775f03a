"""What a runner finds on its host, and what it shows of that to its tasks."""

from __future__ import annotations

import pytest

from runforrest.errors import InvalidArgument
from runforrest.runner import Options
from runforrest.runner.capacity import GPU_VARIABLES, gpu_environment, shares_of, uneven, visible_gpus

CUDA, ROCR = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in GPU_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("listed, found", [
    ("0,1", ("0", "1")), ("0,1,", ("0", "1")), ("4,, 5", ("4", "5")), ("0,-1,1", ("0",)), ("-1", ()), ("", ()),
    ("NoDevFiles", ()), ("GPU-8932f937,GPU-46309c2d", ("GPU-8932f937", "GPU-46309c2d")),
    ("MIG-GPU-8932f937/1/0,MIG-b", ("MIG-GPU-8932f937/1/0", "MIG-b"))])
def test_a_task_sees_only_its_own(monkeypatch: pytest.MonkeyPatch, listed: str, found: tuple[str, ...]) -> None:
    monkeypatch.setenv(CUDA, listed)
    assert visible_gpus() == found
    for gpu in found:
        assert gpu_environment((gpu,)) == {CUDA: gpu}
    assert not found or gpu_environment(found) == {CUDA: ",".join(found)}


def test_all_variables_that_the_runner_has_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA, "0,1,")
    monkeypatch.setenv(ROCR, "6, 7")
    assert gpu_environment(("1",)) == {CUDA: "1", ROCR: "7"}
    assert gpu_environment(("9",)) == {CUDA: "9"}, "as --gpus has named it"
    assert [share.env for share in shares_of(Options(2, split_gpus=True))] == [{CUDA: "0", ROCR: "6"},
                                                                              {CUDA: "1", ROCR: "7"}]


@pytest.mark.parametrize("values, slots, told", [
    ("a,b", 2, []), ("a,b,c,d", 2, []),
    ("a,b,", 3, ["PLACE has 2 of the 3 values for as many slots: there are 2 slots"]),
    ("a,b,c,d,e", 3, ["PLACE has 5 values for 3 slots: 2 of them will not be used"])])
def test_values_that_cannot_be_dealt_out_evenly(monkeypatch: pytest.MonkeyPatch, values: str, slots: int,
                                                told: list[str]) -> None:
    monkeypatch.setenv("PLACE", values)
    assert uneven(Options(slots, split=["PLACE"])) == told


def test_nothing_to_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA, "NoDevFiles")
    with pytest.raises(InvalidArgument, match="no GPUs"):
        shares_of(Options(2, split_gpus=True))

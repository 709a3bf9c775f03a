"""The meter and the plain reporter, in this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runforrest.cli import progress, texts
from runforrest.cli.progress import Meter, Plain, Reading
from runforrest.model.names import Name
from tests.helpers import wait_for

NAME = Name("x")


def meter(monkeypatch: pytest.MonkeyPatch) -> tuple[Meter, Any, Any]:
    """A meter, the runner that it watches, and a clock to set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    made: Any = Meter()
    runner = SimpleNamespace(claims=SimpleNamespace(listed=0), brain=SimpleNamespace(slots=[]))
    made.watch(runner)
    return made, runner, clock


def test_meter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, runner, clock = meter(monkeypatch)
    runner.claims.listed = 100
    assert made.read() == Reading(0, 0, 0, 100, 0.0, None)
    runner.brain.slots = [SimpleNamespace(state=state) for state in ("busy", "busy", "stopping", "idle")]
    for number in range(20):
        made.started(NAME)
        made.finished(NAME, "fail" if number == 3 else "done", {})
    clock.now += 10
    assert made.read() == Reading(19, 1, 3, 80, 2.0, 83 / 2.0)


def test_meter_with_others_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new listing shows what others have done: the list will end sooner than this runner alone could do it."""
    made, runner, clock = meter(monkeypatch)
    runner.claims.listed = 100
    made.read()
    made.started(NAME)
    made.finished(NAME, "done", {})
    clock.now += 10
    runner.claims.listed = 60
    reading = made.read()
    assert (reading.waiting, reading.rate, reading.left) == (60, 0.1, 60 / 4)


def test_rate_is_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, clock = meter(monkeypatch)
    for _ in range(100):
        made.finished(NAME, "done", {})
    for _ in range(10):
        clock.now += 10
        made.finished(NAME, "done", {})
        reading = made.read()
    assert reading.rate == pytest.approx(0.1)
    assert len(made._samples) < 6


def test_plain_lines_only_when_something_changed(monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.005)
    made = Meter()
    said = ""

    def more() -> str:
        nonlocal said
        said += capsys.readouterr().err
        return said

    with Plain(made, "/list", 2) as report:
        wait_for(lambda: "0 done" in more())
        made.finished(NAME, "done", {})
        wait_for(lambda: "1 done" in more())
        report.say("a message \x1b[2J")
    made.finished(NAME, "fail", {})
    report.summary("drained")
    lines = more().splitlines()
    assert lines[0] == "runforrest: 2 slots at work on /list"
    assert "runforrest: a message \\x1b[2J" in lines
    assert lines.count("runforrest: 0 done, 0 failed, 0 running, 0 waiting") == 1
    assert lines[-1].startswith("runforrest: interrupted, what ran was finished: 1 done, 1 failed in ")
    assert lines[-1].endswith("; `runforrest ls /list fail` lists what failed")


@pytest.mark.parametrize(("seconds", "text"), [
    (0.00012, "0.12 ms"), (0.25, "250 ms"), (0.9999, "1.0 s"), (12.34, "12.3 s"), (302, "5:02"), (11102, "3:05:02"),
    (183900, "2 d 03:05")])
def test_durations(seconds: float, text: str) -> None:
    assert texts.duration(seconds) == text


def test_other_texts() -> None:
    assert [texts.size(n) for n in (5, 3 << 19, 7 << 40)] == ["5 bytes", "1.5 MiB", "7 TiB"]
    assert [texts.rate(n) for n in (12.34, 0.05, 0.001)] == ["12.3/s", "3/min", "3.6/h"]
    assert texts.one_line("a\n b" + "x" * 200, 10) == "a bxxxxxx…"
    assert texts.printable("\ud800\x9b\r\n") == "\\ud800\\x9b\n"
    assert (texts.ago("nonsense"), texts.count(1, "task"), texts.count(0, "task")) == ("", "1 task", "0 tasks")

"""From measurements to a verdict: plain values."""

from __future__ import annotations

from typing import Any

import pytest

from runforrest.doctor.measured import Delay, Measured, Race, Side, Speed, Try, create_race, rename_race
from runforrest.doctor.verdict import ADJUST, BAD, GOOD, NOTE, UNUSABLE, WARNING, Verdict, judge, needed_lease
from runforrest.folder.settings import Settings

OK: Try = (0.0, 1.0, "")
LOST: Try = (0.5, 1.5, "ENOENT")


def side(kind: str = "ext4", options: str = "rw", place: str = "/here", **facts: Any) -> Side:
    return Side(place, {"host": "a", "boot": "1", "uid": 7, "mount": {"type": kind, "options": options},
                        "bytes_free": 1 << 40, "files_free": 10**6, "read_only": False, "start_times": True,
                        "folders": [["/here", 7, 7, 0o700], ["/", 0, 0, 0o755]], **facts})


def measured(here: Side | None = None, there: Side | None = None, **more: Any) -> Measured:
    here = here or side()
    return Measured("/here", here, there or here, **{
        "rename": Race(200, 50, 200), "stale": Race(40, 0, 40), "create": Race(100, 50, 100), "locked": True,
        "reading": {"whole": 100, "torn": 0, "late": 0, "gone": 0}, "created": {"uid": 7, "mtime_offset": 0.0},
        "delays": [Delay("new", "/here", [0.001])], **more})


def said(verdict: Verdict, level: str) -> str:
    return "\n".join(remark.text for remark in verdict.remarks if remark.level == level)


def test_a_local_folder() -> None:
    verdict = judge(measured())
    assert (verdict.level, verdict.remarks) == (GOOD, ())
    assert (verdict.beat, verdict.lease, verdict.durability) == (2.0, 8, "normal")


def test_a_shared_folder() -> None:
    verdict = judge(measured(side("fuse.glusterfs"), side("fuse.glusterfs", place="/there")))
    assert (verdict.level, verdict.remarks, verdict.beat) == (GOOD, (), 15.0)
    assert "takes --peer or --ssh" in said(judge(measured(side("fuse.glusterfs"))), NOTE)


@pytest.mark.parametrize("what", ["rename", "stale"])
@pytest.mark.parametrize(("race", "text"), [
    (Race(200, 9, 199, both=1), "won by both"), (Race(200, 9, 199, lost=1), "lost the file"),
    (Race(200, 9, 200, false=1), "were not")])
def test_a_broken_rename_is_not_usable(what: str, race: Race, text: str) -> None:
    verdict = judge(measured(**{what: race}))
    assert verdict.level == UNUSABLE and "1 of 200 rename" in said(verdict, BAD) and text in said(verdict, BAD)


@pytest.mark.parametrize("more", [
    {"reading": {"whole": 9, "torn": 1, "late": 0, "gone": 0}}, {"hung": "rename race"},
    {"failures": {"making a folder": "Permission denied"}}, {"failures": {"rename race": "Input/output error"}}])
def test_what_else_is_not_usable(more: dict[str, Any]) -> None:
    assert judge(measured(**more)).level == UNUSABLE


def test_what_the_protocol_copes_with() -> None:
    verdict = judge(measured(rename=Race(200, 9, 200, late=3), create=Race(100, 9, 98, both=2), locked=False,
                             reading={"whole": 9, "torn": 0, "late": 2, "gone": 30}))
    assert verdict.level == GOOD
    assert all(text in said(verdict, NOTE) for text in ("3 of 200", "2 of 100", "locks do not"))
    assert "2 of 41 files were read without" in said(verdict, WARNING)


def test_the_lease_is_longer_than_any_delay() -> None:
    for seconds in (0.0, 1.0, 21.0, 60.0, 130.0, 1000.0):
        for current in (None, Settings(beat=2.0), Settings(beat=0.1, lease=3), Settings(beat=15.0, lease=100)):
            seen = [Delay("beat", "/here", [seconds / 10, seconds])]
            verdict = judge(measured(side("fuse.sshfs"), delays=seen), current)
            assert verdict.lease_seconds >= needed_lease(seconds, verdict.beat) > seconds
            base = current or Settings(beat=15.0)
            fits = base.beat * base.lease >= needed_lease(seconds, base.beat)
            assert verdict.level == (GOOD if fits else ADJUST)
            assert ((verdict.beat, verdict.lease) == (base.beat, base.lease)) == fits
            assert fits or "too short" in said(verdict, WARNING)


def test_beats_so_short_that_no_lease_would_have_enough_of_them() -> None:
    for delay in (0.0, 0.001, 1.5, 100.0):
        for current in (Settings(beat=1e-6, lease=3), Settings(beat=1e-6, lease=5000)):
            verdict = judge(measured(side(), delays=[Delay("beat", "/here", [delay])]), current)
            assert verdict.lease_seconds >= needed_lease(delay, verdict.beat)
            assert verdict.lease <= max(1001, current.lease + 1)


def test_a_delay_that_was_not_waited_for() -> None:
    verdict = judge(measured(side("fuse.x"), delays=[Delay("new", "/there", [], 2, 35.0)]))
    assert "not seen within 35 s at /there" in said(verdict, WARNING) and verdict.lease_seconds > 70


def test_nfs_is_documented_to_be_late() -> None:
    assert judge(measured(side("nfs4", "rw,hard"))).longest_delay == 60.0
    assert judge(measured(side("nfs", "rw,acdirmax=200"))).lease_seconds >= 300
    assert judge(measured(side("nfs4", "rw,noac"))).longest_delay == 0.001
    verdict = judge(measured(side("nfs4", "rw,soft,timeo=50")))
    assert "soft" in said(verdict, WARNING)


def test_a_list_with_too_short_a_lease_for_its_mounts() -> None:
    """Made on the server's own disk, used over NFS."""
    verdict = judge(measured(side("nfs4")), Settings(beat=2.0, lease=8))
    assert verdict.level == ADJUST and (verdict.beat, verdict.lease) == (15.0, 8)
    assert "8 beats of 2 s" in said(verdict, WARNING)


def test_the_servers_own_disk_and_a_client() -> None:
    """Who makes a list there gets what is meant for one host."""
    client = side("nfs4", place="b:/mnt", boot="2", host="b")
    verdict = judge(measured(side(), client))
    assert (verdict.level, verdict.beat, verdict.lease) == (ADJUST, 15.0, 8)
    assert "a disk of host a itself" in said(verdict, NOTE) and "8 beats of 2 s" in said(verdict, WARNING)
    verdict = judge(measured(client, side(), delays=[Delay("beat", "/here", [0.1])]))
    assert verdict.level == GOOD and verdict.beat == 15.0
    assert judge(measured(client, side("nfs4", place="c:/mnt", boot="3"))).remarks == ()


def test_clocks_room_and_rights() -> None:
    late = side("nfs4", place="b:/mnt", boot="2", uid=8)
    late.clock_offset = -3600.0
    here = side("nfs4", bytes_free=1 << 20, files_free=12,
                folders=[["/here", 9, 7, 0o777], ["/parent", 7, 7, 0o777], ["/tmp", 0, 0, 0o1777], ["/", 0, 0, 0o755]])
    verdict = judge(measured(here, late, created={"uid": 65534, "mtime_offset": 100.0}))
    warnings, notes = said(verdict, WARNING), said(verdict, NOTE)
    for text in ("3600 s apart", "only 1 MiB", "only 12 more files", "root squash", "user 8 at b:/mnt", "/parent",
                 "+100"):
        assert text in warnings, text
    assert "/tmp" not in warnings and "mode 777" in notes and "belongs to user 9" in notes
    assert verdict.level == GOOD           # inconvenient, not wrong


def test_rates() -> None:
    speed = {what: Speed(0.001, 0.01, 9) for what in ("create", "rename", "append", "fsync", "fsync folder")}
    rates = judge(measured(speed=speed)).rates
    assert {what: round(rate) for what, rate in rates.items()} == {
        "schedule": 500, "none": 333, "normal": 250, "full": 200}


# -- races -------------------------------------------------------------------------------


def test_what_a_rename_race_can_end_in() -> None:
    apart: Try = (9.0, 10.0, "ENOENT")
    cases: list[tuple[Try, Try, str, str, str, str]] = [
        (OK, LOST, "it", "", "", "once"), (OK, OK, "it", "it", "", "both"), (LOST, LOST, "", "", "it", "nobody"),
        (LOST, LOST, "", "", "", "lost"), (OK, LOST, "", "", "", "false lost once"),
        (OK, LOST, "", "", "it", "false once"), (LOST, LOST, "it", "", "", "once late"),
        (OK, LOST, "it", "it", "", "both late"), (OK, LOST, "other", "", "", "once false lost")]
    for first, second, own, other, left, outcome in cases:
        race = rename_race(([first], [second]), ([own], [other]), [left])
        marks = [what for what in ("once", "both", "nobody", "lost", "false", "late") if getattr(race, what)]
        assert sorted(marks) == sorted(outcome.split()), (own, other, left)
        assert (race.tried, race.met) == (1, 1)
    assert rename_race(([OK], [apart]), (["it"], [""]), [""]).met == 0


def test_what_a_create_race_can_end_in() -> None:
    race = create_race([OK, OK, LOST], [LOST, OK, LOST])
    assert (race.once, race.both, race.nobody, race.errors) == (1, 1, 1, {"ENOENT": 3})
    race.add(race)
    assert (race.tried, race.once, race.errors) == (6, 2, {"ENOENT": 6})
